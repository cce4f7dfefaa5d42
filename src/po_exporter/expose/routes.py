"""What is answered at each path, and to whom. Everything comes from memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as PLAIN
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS

from po_exporter.errors import ConfigError, NotLeading, PoExporterError, UsageError
from po_exporter.expose import api, metrics, openapi, page
from po_exporter.expose.access import ADMIN, METRICS, NOTIFY, ROWS, Access, Caller
from po_exporter.expose.negotiation import accepts_gzip, wants_openmetrics
from po_exporter.expose.view import View, why_not_ready
from po_exporter.model import Status

Explain = Callable[[bytes], Awaitable[dict[str, Any]]]
"""From what Alertmanager posts to what is known of it. Raises ValueError, or NotLeading."""
Handler = Callable[[web.Request], Awaitable[web.Response]]

MAX_BODY = 64 * 1024
MAX_NOTIFICATION = 1024 * 1024
"""Bytes of what Alertmanager posts: a group of a thousand alerts of ours."""
GZIP_FROM = 1024  # bytes; below that it costs more than it saves

_HEADERS = {
    "Server": "po-exporter",
    "Cache-Control": "no-store",
    "Content-Security-Policy": page.CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Actions:
    """What a request can set going. None: there is no such path."""

    reload: Callable[[], Awaitable[None]] | None = None
    explain: Explain | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """The page of one view as it goes over the wire; it is good for as long as there is nothing else to show."""

    view: View
    body: bytes
    zipped: bool


class Routes:
    """Every path of one server."""

    def __init__(
        self,
        view: Callable[[], View],
        access: Access,
        actions: Actions,
        *,
        guarded: bool,
        external_url: str | None,
    ) -> None:
        """``guarded`` says whether there are tokens; ``external_url`` is where clients find this server."""
        self._view = view
        self._access = access
        self._reload, self._explain = actions.reload, actions.explain
        self._guarded = guarded
        self._external_url = external_url
        self._encoded: dict[tuple[bool, bool], Encoded] = {}  # by form: OpenMetrics or not, zipped or not

    def application(self) -> web.Application:
        """The application that serves them."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_explain])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/metrics", self._for(METRICS, self._metrics))
        app.router.add_get("/", self._for(ROWS, self._page))
        app.router.add_get("/-/healthy", self._healthy)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/api/v1/status", self._for(ROWS, self._status))
        app.router.add_get("/api/v1/findings", self._for(ROWS, self._findings))
        app.router.add_get("/api/v1/openapi.json", self._openapi)
        if self._reload:
            app.router.add_post("/-/reload", self._for(ADMIN, self._load_again))
        if self._explain:
            app.router.add_post("/hooks/alertmanager", self._for(NOTIFY, self._alertmanager))
        return app

    def _for(self, scope: str, handler: Handler) -> Handler:
        """The handler, for those alone who may have what the scope covers."""

        async def answer(request: web.Request) -> web.Response:
            address = request.transport.get_extra_info("peername") if request.transport else None
            caller = Caller(
                request.method, request.raw_path, tuple(request.headers.items()), address[0] if address else None
            )
            refusal = self._access.refuse(scope, caller)
            if refusal is None:
                return await handler(request)
            if refusal.status == 403:
                raise web.HTTPForbidden(text=refusal.sentence)
            challenges = [("WWW-Authenticate", challenge) for challenge in refusal.challenges]
            raise web.HTTPUnauthorized(text=refusal.sentence, headers=challenges)

        return answer

    async def _metrics(self, request: web.Request) -> web.Response:
        as_openmetrics = wants_openmetrics(request.headers.get("Accept", ""))
        zipped = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        view = self._view()
        form = (as_openmetrics, zipped)
        encoded = self._encoded.get(form)
        if encoded is None or encoded.view != view:
            # In a thread: hundreds of databases take a while, and the polls go on meanwhile.
            encoded = self._encoded[form] = await asyncio.to_thread(_encode, view, *form)
        headers = {"Content-Type": OPENMETRICS if as_openmetrics else PLAIN, "Vary": "Accept, Accept-Encoding"}
        if encoded.zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=encoded.body, headers=headers)

    async def _page(self, request: web.Request) -> web.Response:
        refresh = request.query.get("refresh") != "off"
        html = await asyncio.to_thread(page.render, self._view(), datetime.now(UTC), refresh=refresh)
        return web.Response(text=html, content_type="text/html", charset="utf-8")

    async def _healthy(self, _request: web.Request) -> web.Response:
        return _sentence(200, "The process works.")

    async def _ready(self, _request: web.Request) -> web.Response:
        waiting = [status for status in self._view().statuses if status.monitored and not status.ready]
        if waiting:
            return _sentence(503, "\n".join(f"{status.database}: {why_not_ready(status)}" for status in waiting))
        return _sentence(200, "Every database is watched.")

    async def _status(self, request: web.Request) -> web.Response:
        status = self._chosen(request)
        return web.json_response({**api.status_json(status), **api.watching_json(status)})

    async def _findings(self, request: web.Request) -> web.Response:
        status = self._chosen(request)
        check = request.query.get("check")
        if check is not None and check not in status.check_names:
            raise web.HTTPNotFound(text=f"{status.database} is asked no check of that name; see /api/v1/status.")
        return web.json_response(api.findings_json(status, check))

    async def _openapi(self, _request: web.Request) -> web.Response:
        view = self._view()
        return web.json_response(
            openapi.describe(
                version=view.version,
                external_url=self._external_url,
                guarded=self._guarded,
                reload=self._reload is not None,
                several=len(view.statuses) > 1,
            )
        )

    async def _load_again(self, _request: web.Request) -> web.Response:
        if self._reload is None:
            raise web.HTTPNotFound
        try:
            await self._reload()
        except (ConfigError, UsageError) as error:
            answer = _sentence(400, str(error))
        except PoExporterError as error:
            answer = _sentence(500, str(error))
        else:
            answer = _sentence(200, "The configuration was loaded again.")
        # Other rules may hold from now on: the next request needs a new connection.
        answer.force_close()
        return answer

    async def _alertmanager(self, request: web.Request) -> web.Response:
        if self._explain is None:
            raise web.HTTPNotFound
        body = await request.clone(client_max_size=MAX_NOTIFICATION).read()
        try:
            return web.json_response(await self._explain(body))
        except NotLeading:
            raise web.HTTPServiceUnavailable(text="follower") from None
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None

    def _chosen(self, request: web.Request) -> Status:
        """The database that the request means. Raises the HTTP error that says why there is none."""
        statuses = {status.database: status for status in self._view().statuses}
        named = request.query.getall("database", [])
        if len(named) > 1 or (not named and len(statuses) != 1):
            names = ", ".join(statuses)
            raise web.HTTPBadRequest(text=f"Say which database, with ?database=; there are {names}.")
        status = statuses.get(named[0]) if named else next(iter(statuses.values()))
        if status is None:
            raise web.HTTPNotFound(text=f"There is no database of that name; there are {', '.join(statuses)}.")
        if not status.leader:
            raise web.HTTPServiceUnavailable(text="follower")
        return status


def _encode(view: View, as_openmetrics: bool, zipped: bool) -> Encoded:  # noqa: FBT001  # the two parts of a form
    body = metrics.encode(view, as_openmetrics=as_openmetrics)
    zipped = zipped and len(body) >= GZIP_FROM
    return Encoded(view, gzip.compress(body, compresslevel=4, mtime=0) if zipped else body, zipped)


def _sentence(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


@web.middleware
async def _explain(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """One sentence for each refusal: JSON under /api/ and /hooks/, text elsewhere."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        sentence = error.text or error.reason
        if request.match_info.http_exception is error:  # the router's own
            sentence = f"{request.method} is not possible here." if error.status == 405 else "There is nothing here."
        headers = [(name, value) for name, value in error.headers.items() if name.lower() != "content-type"]
        if request.path.startswith(("/api/", "/hooks/")):
            return web.json_response({"error": sentence}, status=error.status, headers=headers)
        return web.Response(text=f"{sentence}\n", status=error.status, headers=headers)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
