"""The Engine API over its Unix socket: calls, attached streams and events. Podman's compatible socket speaks it too."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import BackendUnavailable

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS = 5.0
_CALL_SECONDS = 60.0
_MOST_HEAD = 1 << 16
_OLDEST_API = (1, 40)
_NEWEST_API = (1, 51)
"""Versions of the Engine API that this was written against; the newest that both sides know is spoken."""


class Refused(Exception):
    """The engine answered that it will not; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class EngineGone(Exception):
    """The engine does not answer, or stopped in the middle."""


def socket_paths() -> list[str]:
    """Where an engine may listen: DOCKER_HOST alone if it is set, else the usual places, Docker's first.

    Raises:
        BackendUnavailable: DOCKER_HOST names something that is no Unix socket.
    """
    named = os.environ.get("DOCKER_HOST", "")
    if named:
        if not named.startswith("unix://"):
            raise BackendUnavailable(
                f"DOCKER_HOST is {named}; only an engine on this machine, at unix://.., is used for sandboxes.",
                fix="Set DOCKER_HOST=unix:///path/to/docker.sock, or unset it.",
            )
        return [named.removeprefix("unix://")]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    usual = ["/var/run/docker.sock", f"{runtime}/docker.sock", f"{Path.home()}/.docker/desktop/docker.sock"]
    return [*usual, f"{runtime}/podman/podman.sock", "/run/podman/podman.sock"]


def unreachable(tried: Mapping[str, str]) -> BackendUnavailable:
    """What there is to do where no engine answers; `tried`: path -> what the system said."""
    said = "; ".join(f"{path}: {why}" for path, why in tried.items())
    denied = any("Permission denied" in why for why in tried.values())
    fix = (
        "Run rootless Docker as this user, or let root add this user to the group docker (which is as good as root)."
        if denied
        else "Start the engine (sudo systemctl start docker), or set DOCKER_HOST=unix:///path/to/docker.sock."
    )
    return BackendUnavailable(f"No Docker engine answers here ({said}).", fix=fix)


class Engine:
    """One engine. Calls may overlap; `close` it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.version: Mapping[str, Any] = {}
        self._prefix = ""
        self._client: httpx2.AsyncClient | None = None

    @classmethod
    async def found(cls) -> Engine:
        """The first that answers.

        Raises:
            BackendUnavailable: none does; where was looked is said.
        """
        tried: dict[str, str] = {}
        for path in socket_paths():
            engine = cls(path)
            try:
                await engine.meet()
            except (EngineGone, Refused) as error:
                tried[path] = str(error)
                await engine.close()
            else:
                return engine
        raise unreachable(tried)

    async def meet(self) -> None:
        """Settles which version of the API is spoken. Raises EngineGone."""
        self.version = await self.call("GET", "/version")
        theirs = _numbers(self.version.get("ApiVersion"))
        oldest = _numbers(self.version.get("MinAPIVersion")) or _OLDEST_API
        speak = min(theirs or _OLDEST_API, _NEWEST_API)
        if speak < max(oldest, _OLDEST_API):
            raise EngineGone(f"it speaks no version of the API between {_OLDEST_API} and {_NEWEST_API}")
        self._prefix = f"/v{speak[0]}.{speak[1]}"

    async def call(
        self, method: str, path: str, *, body: Any = None, seconds: float = _CALL_SECONDS, **query: Any
    ) -> Any:
        """One call; its answer as JSON, or as text where it is none.

        Raises:
            Refused: the engine says no.
            EngineGone: it does not answer.
        """
        import httpx2

        try:
            async with asyncio.timeout(seconds):
                answer = await self._http().request(
                    method, self._prefix + path, params=_flat(query), json=body
                )
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            raise EngineGone(str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise Refused(answer.status_code, _message(answer.text))
        try:
            return answer.json()
        except ValueError:
            return answer.text

    async def load(self, path: str, tar: AsyncIterator[bytes], **query: Any) -> str:
        """Sends a tar archive, and returns what the engine says of it, line by line. Raises as `call`."""
        import httpx2

        try:
            answer = await self._http().post(
                self._prefix + path,
                params=_flat(query),
                content=tar,
                headers={"Content-Type": "application/x-tar"},
            )
        except (httpx2.HTTPError, OSError) as error:
            raise EngineGone(str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise Refused(answer.status_code, _message(answer.text))
        return answer.text

    async def events(
        self, filters: Mapping[str, list[str]], ready: asyncio.Event
    ) -> AsyncIterator[dict[str, Any]]:
        """What happens to what `filters` name, until the engine goes. `ready` is set once nothing is missed.

        Raises:
            EngineGone: it went.
        """
        import httpx2

        query = _flat({"filters": filters})
        try:
            async with self._http().stream("GET", f"{self._prefix}/events", params=query) as answer:
                if answer.status_code >= 400:
                    raise EngineGone(f"it tells no events (HTTP {answer.status_code})")
                ready.set()
                async for line in answer.aiter_lines():
                    if line.strip():
                        yield json.loads(line)
        except (httpx2.HTTPError, OSError) as error:
            raise EngineGone(str(error) or type(error).__name__) from error

    async def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """The streams of a container that is about to start, and what of them has come. Raises as `call`."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.sock_connect(sock, self.path)
                query = "stream=1&stdin=1&stdout=1&stderr=1"
                head = (
                    f"POST {self._prefix}/containers/{container}/attach?{query} HTTP/1.1\r\nHost: engine\r\n"
                )
                head += "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
                await loop.sock_sendall(sock, head.encode())
                got = b""
                while b"\r\n\r\n" not in got and len(got) < _MOST_HEAD:
                    piece = await loop.sock_recv(sock, 4096)
                    if not piece:
                        raise EngineGone("it closed an attached stream at once")
                    got += piece
        except (OSError, TimeoutError) as error:
            sock.close()
            raise EngineGone(str(error) or "no answer") from error
        except BaseException:
            sock.close()
            raise
        answered, _, rest = got.partition(b"\r\n\r\n")
        status = int(answered.split(b" ", 2)[1])
        if status not in (101, 200):
            sock.close()
            raise Refused(status, _message(rest.decode("utf-8", "replace")))
        return sock, rest

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(uds=self.path, limits=httpx2.Limits(max_connections=64)),
                base_url="http://engine",
                timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            )
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _flat(query: Mapping[str, Any]) -> dict[str, str]:
    """Query parameters as the engine wants them: what is no text or number is JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500]


def _numbers(version: Any) -> tuple[int, int] | None:
    parts = str(version or "").split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) >= 2 and all(p.isdigit() for p in parts[:2]) else None
