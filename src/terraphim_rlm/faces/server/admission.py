"""Who gets in over TCP: asked of every request before anything of it is read, the routes not known.

Everything is refused that is not allowed in here: a route that is added later needs a key by itself. Browsers are kept
out by the name they asked for (Host) and the page they come from (Origin), unless that page is allowed by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from terraphim_rlm.core.errors import Forbidden, InvalidArgument, KeyRefused, KeysUnreadable, RlmError
from terraphim_rlm.faces.server import problems
from terraphim_rlm.service import keys

PUBLIC = ("/health",)
"""Served without a key, and without a word of who is working."""
_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SAFE: Iterable[tuple[bytes, bytes]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, last-event-id"),
    (b"access-control-max-age", b"600"),
)
_JSON_OR_STREAM = ("application/json", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Tcp:
    """Who is let in over TCP."""

    port: int
    origins: tuple[str, ...] = ()
    """Pages that a browser may call from, such as `https://app.example.org`."""
    needs_key: bool = True
    """False: everybody on this machine, but no browser."""


class Admission:
    """ASGI middleware; goes around everything else of a TCP server."""

    def __init__(self, app: ASGIApp, tcp: Tcp, known: keys.Keys) -> None:
        self._app = app
        self._tcp = tcp
        self._keys = known
        self._hosts = {f"{name}:{tcp.port}" for name in _NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # nothing else is served over TCP
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin if origin in self._tcp.origins else None

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_SAFE, *_cors(allowed)]
            await send(message)

        try:
            if allowed is not None and scope["method"] == "OPTIONS":
                self._check_place(headers)
                await _preflight(marked)
                return
            scope["state"] = {**scope.get("state", {}), "over_tcp": True}
            self._check(scope, headers)
            _check_kind(scope["method"], headers)
        except RlmError as error:
            response = problems.told(
                scope["path"], error, 415 if isinstance(error, InvalidArgument) else None
            )
            if isinstance(error, KeyRefused):
                response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, marked)
            return
        await self._app(scope, receive, marked)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raises:
        KeyRefused, Forbidden: whoever asks may not.
        """
        self._check_place(headers)
        if scope["path"] in PUBLIC and scope["method"] == "GET":
            return
        if self._tcp.needs_key:
            key = self._known(_bearer(headers))
            if key is None:
                raise KeyRefused("This needs a key that is known and not over.")
            wanted = scope_of(scope["method"], scope["path"])
            if not key.may(wanted):
                raise Forbidden(f"The key {key.name!r} has not the scope {wanted!r}.", scope=wanted)

    def _known(self, text: str) -> keys.Key | None:
        """Raises:
        KeysUnreadable: without a word of where they lie: nobody knows yet who asks.
        """
        try:
            return self._keys.find(text)
        except (KeysUnreadable, OSError):
            raise KeysUnreadable("The keys of this daemon cannot be read.") from None

    def _check_place(self, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.lower() not in self._hosts:
            raise Forbidden(f"This is not {host[:80]!r}.", fix=f"Ask http://127.0.0.1:{self._tcp.port}.")
        if origin is not None and origin not in self._tcp.origins:
            raise Forbidden(
                f"Pages of {origin[:80]!r} may not call.", fix="Allow them: `trlm serve --cors-origin URL`."
            )
        if origin is None and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Forbidden("A browser asks on behalf of another page.")
        if not self._tcp.needs_key and (origin is not None or "sec-fetch-site" in headers):
            raise Forbidden("Without keys no browser is let in.", fix="Serve without --open-loopback.")


def _check_kind(method: str, headers: Headers) -> None:
    """Other kinds of bodies are what a page of another origin can send without being asked about.

    Raises:
        InvalidArgument: it is such a one.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method in ("POST", "PUT", "PATCH") and kind not in _JSON_OR_STREAM:
        raise InvalidArgument(
            f"A body must be application/json, not {kind[:80] or 'of no kind'}.",
            fix="Send `Content-Type: application/json`.",
        )


def scope_of(method: str, path: str) -> keys.Scope:
    """What a key must allow for it; what is not known here needs `admin`."""
    if path.startswith(("/api/runs", "/v1/")):
        return "read" if method == "GET" else "ask"
    if path.startswith(("/api/sessions", "/api/executions", "/api/pools", "/api/history")):
        return "read" if method == "GET" and not path.endswith("/files/content") else "exec"
    if method == "GET" and path in ("/metrics", "/doctor", "/openapi.json"):
        return "read"
    return "admin"


def _bearer(headers: Headers) -> str:
    kind, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def _cors(origin: str | None) -> Iterable[tuple[bytes, bytes]]:
    if origin is not None:
        yield b"access-control-allow-origin", origin.encode("latin-1")
        yield b"vary", b"origin"


async def _preflight(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": list(_PREFLIGHT)})
    await send({"type": "http.response.body", "body": b""})
