"""A server of maps for one page on this machine: the loopback only, a secret in the address, nothing from elsewhere."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from typing import Any

import anyio
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from regard.errors import ConfigError, RegardError
from regard.exploring.answers import about, answered, finite, frame
from regard.exploring.atlas import Atlas
from regard.exploring.maps import StoppedError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
MOST_ASKED = 1 << 16
"""Bytes of a question."""
_SLOW, _AT_ONCE = ("heads", "strongest", "shares", "tracks"), 1
_END = object()


class Guard:
    """Answers only what comes from this page: by Host, Origin and what browsers say of where a request comes from."""

    def __init__(self, app: Any, port: int) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self._is_own(dict(scope["headers"])):
            await PlainTextResponse("not for you", 403, HEADERS)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_own(self, headers: dict[bytes, bytes]) -> bool:
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
        fits = origin is None or origin in {b"http://" + host for host in self.hosts}
        return headers.get(b"host") in self.hosts and fits and site in (b"same-origin", b"none")


def application(atlas: Atlas, token: str, port: int) -> Any:
    """The server's application, under the secret `token`."""
    rooms = {what: anyio.CapacityLimiter(_AT_ONCE) for what in ("slow", "quick")}

    async def start(request: Request) -> Response:
        return _file("index.html")

    async def file(request: Request) -> Response:
        return _file(request.path_params["name"])

    async def facts(request: Request) -> Response:
        return JSONResponse(finite(about(atlas)), headers=HEADERS)

    async def ask(request: Request) -> Response:
        what = request.path_params["what"]
        asked = await _asked(request)
        if asked is None:
            return PlainTextResponse("need a question as JSON", 400, HEADERS)
        room = rooms["slow" if what in _SLOW else "quick"]
        return StreamingResponse(
            _streamed(atlas, what, asked, room), headers=HEADERS, media_type="application/octet-stream"
        )

    routes = [
        Route(f"/{token}/", start),
        Route(f"/{token}/about", facts),
        Route(f"/{token}/page/{{name}}", file),
        Route(f"/{token}/ask/{{what}}", ask, methods=["POST"]),
    ]
    nothing = {404: _nothing, 405: _nothing}
    return Guard(Starlette(routes=routes, exception_handlers=nothing), port)  # type: ignore[arg-type]


async def _nothing(request: Request, error: Any) -> Response:
    return PlainTextResponse("nothing here", error.status_code, HEADERS)


def _file(name: str) -> Response:
    found = files("regard.exploring") / "page" / name
    kind = KINDS.get(name.rpartition(".")[2])
    if kind is None or "/" in name or "\\" in name or not found.is_file():
        return PlainTextResponse("nothing here", 404, HEADERS)
    return Response(found.read_bytes(), headers=HEADERS, media_type=kind)


async def _asked(request: Request) -> dict | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_ASKED:
            return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


async def _streamed(atlas: Atlas, what: str, asked: dict, room: Any) -> AsyncIterator[bytes]:
    """Frames as they come; whoever asked and went away stops what is computed for it."""
    gone = threading.Event()
    frames = answered(atlas, what, asked, gone.is_set)
    try:
        while True:
            found = await to_thread.run_sync(_next, frames, limiter=room, abandon_on_cancel=True)
            if found is _END:
                return
            yield found
    finally:
        gone.set()


def _next(frames: Iterator[bytes]) -> Any:
    try:
        return next(frames, _END)
    except StoppedError:
        return _END
    except RegardError as error:
        return frame({"error": str(error)})
    except (KeyError, TypeError, ValueError):
        return frame({"error": "explore: need a question of the page's; got another; reload the page."})


class Server:
    """A server that runs in a thread of its own until it is closed."""

    def __init__(self, atlas: Atlas, port: int = 0) -> None:
        """Raise ConfigError where the port is in use."""
        self.atlas, self.token = atlas, secrets.token_urlsafe(24)
        self._socket = bound(port)
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            application(atlas, self.token, self.port), log_level="critical", access_log=False, lifespan="off",
            ws="none", timeout_graceful_shutdown=1, limit_concurrency=64,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True, name="regard-explore")
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/{self.token}/"

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def wait(self) -> None:
        """Until it is closed, or by Ctrl-C."""
        while self._thread.is_alive():
            self._thread.join(0.2)

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(2)
        self._socket.close()


def bound(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen()
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--port: need a port that is free; got {port} ({reason}); leave it out, or name another."
        ) from None
    return found
