"""One streamed POST: time-outs, caps, and every failure as one of our errors.

What a provider sends is bounded before it is read: bytes of a reply, of a line, and of an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import ModelError, ModelProtocol, ModelTimeout, ModelUnreachable
from terraphim_rlm.llm.failures import from_status
from terraphim_rlm.llm.providers import Key, is_loopback

ERROR_BYTES = 64 * 1024
DRAIN = 0.25
"""Seconds in which the rest of a finished reply may still come, so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one attempt. Seconds and bytes."""

    connect: float = 10.0
    first_byte: float = 120.0
    """From the request until the first line: a long prompt is read before anything is said."""
    idle: float = 60.0
    """Between two lines."""
    total: float = 600.0
    reply_bytes: int = 16 * 1024 * 1024
    line_bytes: int = 4 * 1024 * 1024


DEFAULT_BOUNDS = Bounds()
BEARER = ("Authorization", "Bearer {key}")


class Connection:
    """A pool of connections to one base URL. Opened at the first use, in that event loop.

    Redirects are not followed: they would carry the key, or the prompt, elsewhere. Compressed replies are
    refused: what a few of their bytes become is bounded only after it was made.
    """

    def __init__(
        self,
        base_url: str,
        key: Key,
        headers: Mapping[str, str],
        bounds: Bounds,
        key_header: tuple[str, str] = BEARER,
    ) -> None:
        self.base_url = base_url
        self.bounds = bounds
        self.key = key
        self._key_header = key_header
        self._headers = dict(headers)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Connection({self.base_url!r})"

    @contextlib.asynccontextmanager
    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Reply]:
        """Sends `body` as JSON; yields the reply once its status line says that it is one.

        Raises:
            ModelError: the leaf that fits; never an error of the HTTP library.
        """
        content = json.dumps(body, ensure_ascii=True).encode()
        request = self._open().build_request(
            "POST",
            f"{self.base_url}{path}",
            content=content,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        now = asyncio.get_running_loop().time()
        deadline = now + self.bounds.total
        with self._translated():
            async with asyncio.timeout_at(min(deadline, now + self.bounds.first_byte)):
                response = await self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise await self._refused(response)
                if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                    raise ModelProtocol(
                        f"{self.base_url} compresses its reply ({encoding[:40]}), which was not asked for.",
                        base_url=self.base_url,
                    )
                yield Reply(response, self.bounds, deadline)
            finally:
                with contextlib.suppress(Exception):  # a connection that fails while it is closed is closed
                    await response.aclose()

    async def aclose(self) -> None:
        """Closes the connections, if they belong to this event loop."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def _open(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            import httpx2

            headers = {**self._headers, "Accept-Encoding": "identity"}
            if secret := self.key.reveal():
                name, form = self._key_header
                headers[name] = form.format(key=secret)
            self._loop = loop
            self._client = httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(None, connect=self.bounds.connect),
                limits=httpx2.Limits(max_connections=256, max_keepalive_connections=64),
                trust_env=not is_loopback(self.base_url),
            )
        return self._client

    async def _refused(self, response: Any) -> ModelError:
        raw = b""
        with contextlib.suppress(Exception):  # the status counts; what came of the message is shown
            async with asyncio.timeout(self.bounds.idle):
                async for piece in response.aiter_raw():
                    raw += piece
                    if len(raw) > ERROR_BYTES:
                        break
        text = self.key.scrub(raw[:ERROR_BYTES].decode("utf-8", "replace"))
        return from_status(response.status_code, text, response.headers, self.base_url)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx2

        try:
            yield
        except TimeoutError as error:
            raise ModelTimeout(f"{self.base_url} took too long.", base_url=self.base_url) from error
        except httpx2.ConnectTimeout as error:
            raise ModelTimeout(
                f"{self.base_url} did not take the connection within {self.bounds.connect:g} s.",
                base_url=self.base_url,
            ) from error
        except (httpx2.ConnectError, ssl.SSLError) as error:
            raise ModelUnreachable(
                f"{self.base_url} cannot be reached: {error}", base_url=self.base_url
            ) from error
        except httpx2.TransportError as error:
            raise ModelUnreachable(
                f"The connection to {self.base_url} broke off: {type(error).__name__}.",
                base_url=self.base_url,
            ) from error


class Reply:
    """A reply that has begun."""

    def __init__(self, response: Any, bounds: Bounds, deadline: float) -> None:
        self._response = response
        self._bounds = bounds
        self._deadline = deadline
        self.content_type = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()

    async def lines(self) -> AsyncGenerator[str, None]:
        """Lines without their ends, as they come; the last one need not have an end.

        No time-out is pending while a line is out of hand: it would strike the reader's own code.

        Raises:
            ModelProtocol: the reply or a line is longer than the bounds.
            TimeoutError: a line took longer than the bounds (`Connection.post` translates it).
        """
        pieces = self._response.aiter_raw()
        pending, size, wait = bytearray(), 0, self._bounds.first_byte
        while True:
            whole: list[bytes] = []
            ended = False
            by = min(self._deadline, asyncio.get_running_loop().time() + wait)
            async with asyncio.timeout_at(by):
                while not whole and not ended:
                    piece = await anext(pieces, None)
                    ended = piece is None
                    size += len(piece or b"")
                    first, *rest = (piece or b"").split(b"\n")
                    pending += first
                    if rest:
                        whole, pending = [bytes(pending), *rest[:-1]], bytearray(rest[-1])
                    if size > self._bounds.reply_bytes or len(pending) > self._bounds.line_bytes:
                        raise ModelProtocol(
                            f"The reply has more than {self._bounds.reply_bytes:,} bytes, or one of its lines is endless."
                        )
            for line in whole + ([bytes(pending)] if ended and pending else []):
                yield line.rstrip(b"\r").decode("utf-8", "replace")
            if ended:
                return
            wait = self._bounds.idle

    async def text(self) -> str:
        """The whole body, bounded like the lines."""
        async with contextlib.aclosing(self.lines()) as lines:
            return "\n".join([line async for line in lines])

    async def events(self) -> AsyncGenerator[str, None]:
        """The data of each server-sent event (WHATWG HTML, 9.2.6); comments and other fields are dropped."""
        data: list[str] = []
        async with contextlib.aclosing(self.lines()) as lines:
            async for line in lines:
                if not line and data:
                    yield "\n".join(data)
                    data = []
                elif line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
        if data:
            yield "\n".join(data)
