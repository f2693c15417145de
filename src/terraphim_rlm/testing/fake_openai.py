"""A small HTTP server on loopback that speaks the OpenAI chat API, and misbehaves as told.

Standard library only. It answers `POST */chat/completions`; each request takes the next `Fake` of the
script, and the default when the script is out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

BODY_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fake:
    """How one request is answered."""

    text: str = "ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    """Sent as it is, in place of all that follows."""
    content_type: str | None = None
    """None = what fits: an event stream, or JSON for an error."""
    chunks: int = 3
    """Pieces that the text is cut into."""
    delay: float = 0.0
    """Seconds before the status line."""
    chunk_delay: float = 0.0
    """Seconds before each chunk."""
    finish_reason: str | None = "stop"
    usage: Any = None
    """The `usage` field as it is sent; None = the truth, by bytes/4; False = none."""
    cached_tokens: int = 0
    reasoning: str = ""
    """Sent as `reasoning_content` before the text."""
    refusal: str = ""
    cut_after: int | None = None
    """Chunks after which the connection is reset; None = whole."""
    stall_after: int | None = None
    """Chunks after which nothing more comes, and the connection stays open."""
    clean_cut: bool = False
    """True = the cut ends the HTTP body properly, as a proxy does that lost its backend."""
    done: bool = True
    """Whether the stream ends with `[DONE]`."""
    hang: bool = False
    """True = never answer; the connection stays open until the client leaves."""
    streamed: bool = True
    """False = one JSON object, as a server that ignores `stream`."""

    @property
    def waits(self) -> bool:
        """Whether the client may have left while the answer is being sent."""
        return self.hang or self.stall_after is not None or self.delay > 0 or self.chunk_delay > 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


Answer = Fake | Callable[[Seen], Fake]


class FakeOpenAI:
    """An async context manager with `base_url`, `requests` and `disconnects`.

    Args:
        script: answers in the order of arrival; each a `Fake`, or a function from the request to one.
        default: the answer when the script is out.
    """

    def __init__(self, script: Iterable[Answer] = (), *, default: Answer = Fake()) -> None:
        self._script = list(script)
        self._default = default
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Seen] = []
        self.disconnects = 0
        """Clients that left before their answer was whole."""
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def base_url(self) -> str:
        assert self._server is not None, "enter the server first: async with FakeOpenAI(..) as server"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=BODY_MAX)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (seen := await _read(reader)) is not None:
                self.requests.append(seen)
                answer = self._script.pop(0) if self._script else self._default
                fake = self.answer_to(answer(seen) if callable(answer) else answer, seen)
                if not await self._answer(fake, seen, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _answer(
        self, fake: Fake, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """False when the connection has ended."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        sending = asyncio.create_task(_send(fake, self._pieces(fake, seen), writer))
        leaving = asyncio.create_task(reader.read(1)) if fake.waits else None
        try:
            await asyncio.wait(
                {sending, *([leaving] if leaving else [])}, return_when=asyncio.FIRST_COMPLETED
            )
            if not sending.done():
                self.disconnects += 1
                return False
            return sending.result()
        except ConnectionError:
            self.disconnects += 1
            return False
        finally:
            self.in_flight -= 1
            for task in (sending, leaving):
                if task is not None:  # its end is seen, whatever it was
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def answer_to(self, fake: Fake, seen: Seen) -> Fake:
        """What is answered in place of `fake`, by a server that judges requests itself."""
        return fake

    async def _pieces(self, fake: Fake, seen: Seen) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        if fake.body is not None or fake.status != 200:
            said = fake.body if fake.body is not None else json.dumps(self.failure(fake))
            yield said.encode("utf-8", "surrogateescape") or b" "
        elif not fake.streamed:
            yield json.dumps(self.whole(fake, seen)).encode()
        else:
            for chunk in self.chunks(fake, seen):
                if fake.chunk_delay:
                    await asyncio.sleep(fake.chunk_delay)
                yield chunk

    def failure(self, fake: Fake) -> dict[str, Any]:
        """The body of an error."""
        return {"error": {"message": fake.text, "type": "fake", "code": None}}

    def whole(self, fake: Fake, seen: Seen) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        message = {"role": "assistant", "content": fake.text}
        choice = {"index": 0, "message": message, "finish_reason": fake.finish_reason}
        return {"id": "fake", "choices": [choice], "usage": _usage(fake, seen)}

    def chunks(self, fake: Fake, seen: Seen) -> Iterable[bytes]:
        """The pieces of a reply that is streamed."""
        return _chunks(fake, seen)


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    line = await reader.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (field_line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    raw = await reader.readexactly(min(int(headers.get("content-length", "0")), BODY_MAX))
    body = json.loads(raw) if raw else {}
    return Seen(line.decode("latin-1").split(" ")[1], headers, body)


async def _send(fake: Fake, pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> bool:
    if fake.hang:
        await asyncio.Event().wait()
    if fake.delay:
        await asyncio.sleep(fake.delay)
    streamed = fake.status == 200 and fake.body is None and fake.streamed
    kind = fake.content_type or ("text/event-stream" if streamed else "application/json")
    headers = {"Content-Type": kind, "Transfer-Encoding": "chunked", **fake.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {fake.status} Whatever\r\n{head}\r\n".encode())
    sent = 0
    async for piece in pieces:
        if fake.stall_after is not None and sent >= fake.stall_after:
            await asyncio.Event().wait()
        if fake.cut_after is not None and sent >= fake.cut_after:
            await writer.drain()
            if not fake.clean_cut:
                writer.transport.abort()
                return False
            break
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        sent += 1
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _chunks(fake: Fake, seen: Seen) -> Iterable[bytes]:
    def event(choices: list[Any], **rest: Any) -> bytes:
        chunk = {
            "id": "fake",
            "object": "chat.completion.chunk",
            "model": seen.body.get("model"),
            "choices": choices,
            **rest,
        }
        return f"data: {json.dumps(chunk)}\n\n".encode()

    def delta(finish: str | None = None, **part: Any) -> bytes:
        return event([{"index": 0, "delta": part, "finish_reason": finish}])

    yield delta(role="assistant", content=None)
    if fake.reasoning:
        yield delta(reasoning_content=fake.reasoning)
    if fake.refusal:
        yield delta(refusal=fake.refusal)
    for piece in cut(fake):
        yield delta(content=piece)
    if fake.finish_reason is not None:
        yield delta(fake.finish_reason)
    if fake.usage is not False:
        yield event([], usage=_usage(fake, seen))
    if fake.done:
        yield b"data: [DONE]\n\n"


def cut(fake: Fake) -> Iterable[str]:
    """The text in its pieces."""
    step = max(1, -(-len(fake.text) // max(1, fake.chunks)))
    return [fake.text[start : start + step] for start in range(0, len(fake.text), step)]


def size(text: str) -> int:
    """Tokens of a text, by its bytes."""
    return len(text.encode("utf-8", "replace")) // 4


def _usage(fake: Fake, seen: Seen) -> Any:
    if fake.usage is not None:
        return fake.usage
    prompt = sum(size(str(m.get("content", ""))) + 4 for m in seen.body.get("messages", []))
    out = size(fake.text)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": out,
        "total_tokens": prompt + out,
        "prompt_tokens_details": {"cached_tokens": min(fake.cached_tokens, prompt)},
    }
