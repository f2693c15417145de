"""HTTP over the daemon's Unix socket; what it answers as an error is raised as that error."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from terraphim_rlm.core.errors import DaemonUnavailable, RlmError, from_json
from terraphim_rlm.core.sockets import reachable
from terraphim_rlm.faces.client.start import last_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

_JSON = {"Content-Type": "application/json"}
_CONNECT_SECONDS = 10.0


class Connection:
    """An async context manager. Nothing is connected before the first request.

    Every method raises `DaemonUnavailable` when nobody listens or the daemon goes away, and else what it answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = AsyncExitStack()
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpx2

        address = self._stack.enter_context(reachable(self._path))
        client = httpx2.AsyncClient(
            # There is no TLS on a socket of our own; with `verify` each client would read all certificates.
            transport=httpx2.AsyncHTTPTransport(uds=address, verify=False),
            base_url="http://daemon",
            timeout=httpx2.Timeout(
                None, connect=_CONNECT_SECONDS
            ),  # how long code runs, its own limits decide
            trust_env=False,
        )
        self._client = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def get(self, path: str, /, **query: Any) -> Any:
        """The JSON that a path answers with; what is None in the query is left out."""
        return await self._json("GET", path + _asked(query))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._json("POST", path, content=json.dumps(body).encode(), headers=_JSON)

    async def delete(self, path: str, /, **query: Any) -> Any:
        return await self._json("DELETE", path + _asked(query))

    async def put(self, path: str, blocks: AsyncIterator[bytes], /, **query: Any) -> Any:
        """Sends blocks as the body."""
        return await self._json("PUT", path + _asked(query), content=blocks)

    async def lines(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The lines that a POST answers with, as they come. Leave it with `aclosing`."""
        headers = {**_JSON, "Accept": "application/x-ndjson"}
        content = json.dumps(body).encode()
        async with self._sent("POST", path, content=content, headers=headers) as response:
            pending = bytearray()
            async for piece in response.aiter_raw():
                pending += piece
                if b"\n" in piece:
                    *whole, rest = bytes(pending).split(b"\n")
                    pending = bytearray(rest)
                    for each in whole:
                        yield json.loads(each)

    @asynccontextmanager
    async def blocks(self, path: str, /, **query: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """What a GET answers with, as it comes.

        Raises:
            DaemonUnavailable: also when it breaks off, as when the session ends meanwhile.
        """
        begun = False
        try:
            async with self._sent("GET", path + _asked(query)) as response:
                begun = True
                yield response.aiter_raw()
        except DaemonUnavailable as error:
            if not begun:
                raise
            raise DaemonUnavailable(
                "It was cut short: the session ended, or its daemon.", fix="See: `trlm session list --all`."
            ) from error

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        async with self._sent(method, path, **options) as response:
            return json.loads(await response.aread())

    @asynccontextmanager
    async def _sent(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx2.Response]:
        assert self._client is not None, "enter it first"
        with _translated(self._path):
            async with self._client.stream(method, path, **options) as response:
                if response.status_code >= 400:
                    raise _refused(response.status_code, await response.aread())
                yield response


def _asked(query: Mapping[str, Any]) -> str:
    """`?name=value&..`, booleans in lower case; what is None is left out, and any string can be said."""
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }
    return f"?{urlencode(given, errors='surrogateescape')}" if given else ""


def _refused(status: int, body: bytes) -> RlmError:
    try:
        found = json.loads(body)
        return from_json({**found, "message": found["detail"]})
    except (ValueError, KeyError, TypeError):
        return DaemonUnavailable(f"The daemon answered with status {status} and no reason.", status=status)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    import httpx2

    try:
        yield
    except httpx2.ConnectError as error:
        raise DaemonUnavailable(f"No daemon listens at {path}.", path=str(path)) from error
    except httpx2.TransportError as error:
        raise DaemonUnavailable(
            f"The daemon went away before it had answered.{last_words()}",
            fix="Try again; `trlm session list` shows what is left.",
            path=str(path),
        ) from error
