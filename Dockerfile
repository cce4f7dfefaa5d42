# The sidecar's image. Any base with Python 3.11, 3.12 or 3.13 and its venv module will do.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/po-exporter
WORKDIR /build
# The dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN /opt/po-exporter/bin/python -m pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/po-exporter/bin/python -m pip install --no-deps .

FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="po-exporter" \
      org.opencontainers.image.description="Tells Prometheus, and the on-call, whether a trading system's orders and positions still agree." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin po-exporter
COPY --from=build /opt/po-exporter /opt/po-exporter
ENV PATH=/opt/po-exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 9843
# For plain Docker; Kubernetes probes by itself. Where the server has TLS or another port, give another one at run time.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
  CMD ["/opt/po-exporter/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9843/-/healthy', timeout=3)"]
ENTRYPOINT ["po-exporter"]
CMD ["run"]
