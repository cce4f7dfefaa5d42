# The sidecar's image. Any base with Python 3.11, 3.12 or 3.13, its venv module and useradd will do.
ARG BASE_IMAGE=python:3.13-slim

# hadolint ignore=DL3006  # the base has its tag, or its digest, in BASE_IMAGE
FROM ${BASE_IMAGE} AS build
ARG REVISION=unknown
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/po-exporter && python3 -m venv /sbom
WORKDIR /build
# What changes least comes first.
COPY requirements-image.lock ./
RUN /sbom/bin/python -m pip install --require-hashes --requirement requirements-image.lock
COPY requirements.lock ./
RUN /opt/po-exporter/bin/python -m pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# Nothing is installed at run time, so that pip goes; then what is left is written down.
RUN echo "${REVISION}" >src/po_exporter/REVISION \
 && /opt/po-exporter/bin/python -m pip install --no-deps . \
 && /opt/po-exporter/bin/python -m pip uninstall --yes pip setuptools \
 && /sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
      --output-file /opt/po-exporter/sbom.cdx.json /opt/po-exporter/bin/python

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="po-exporter" \
      org.opencontainers.image.description="Tells Prometheus, and the on-call, whether a trading system's orders and positions still agree." \
      org.opencontainers.image.source="https://github.com/po-exporter/po-exporter" \
      org.opencontainers.image.documentation="https://github.com/po-exporter/po-exporter/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --no-log-init --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin po-exporter
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
