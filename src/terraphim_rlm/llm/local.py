"""The built-in model: in this process, on one thread, without a network.

It is small: it finds and copies what a text says, and does not reason. `llama` says how fast it is.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import ModelNotInstalled, PromptTooLong
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm import gbnf, weights
from terraphim_rlm.llm.client import FinishReason, ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.llama import Generated, LlamaEngine, engine_for

DEFAULT_MODEL = "smollm2"
WINDOW = 4096
"""The model was trained for 8192; at 100 tokens/s of prefill that would be 80 s, and 90 MB more memory."""
DEFAULT_REPLY_TOKENS = 512
"""Of a request that names no limit: the model may loop for ever."""
MOST_BYTES_PER_TOKEN = 64
"""A prompt longer than this times the window is refused without tokenizing it (which cannot be interrupted)."""

_ROLE_MARK = re.compile(r"<\|(?=(?:im_start|im_end|endoftext)\|>)")
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class LocalStatistics:
    """What a `LocalModel` has done."""

    loaded: bool
    load_seconds: float | None
    calls: int
    in_flight: int


class LocalModel:
    """A model from `weights.KNOWN`, loaded at the first request, once per process.

    Requests run one after another. `temperature` None means 0: the same prompt gives the same reply.
    Marks of the chat template inside a message are broken up, so that a text cannot play another role.

    Raises:
        ModelNotInstalled: the extra `[local]` or the weights are missing.
        UnknownModel: there is no such built-in model.
    """

    def __init__(self, name: str = DEFAULT_MODEL, *, window: int = WINDOW) -> None:
        path = weights.installed_path(name)
        if importlib.util.find_spec("xllamacpp") is None:
            raise ModelNotInstalled(
                "The local model needs the library xllamacpp, which is not installed.",
                fix="Run: python -m pip install 'terraphim-rlm[local]'",
            )
        if path is None:
            raise ModelNotInstalled(
                f"The weights of {name} are not on this machine.",
                fix=f"Run `trlm models get {name}`.",
                model=name,
            )
        self._info = ModelInfo(
            f"local/{name}", window=window, profile="small", supports_grammar=True, local=True
        )
        self._engine: LlamaEngine = engine_for(path, window)
        self._running: dict[asyncio.Future[Generated], threading.Event] = {}
        self._calls = 0

    @property
    def info(self) -> ModelInfo:
        return self._info

    def statistics(self) -> LocalStatistics:
        seconds = self._engine.load_seconds
        return LocalStatistics(seconds is not None, seconds, self._calls, len(self._running))

    async def complete(self, request: ModelRequest) -> ModelReply:
        running = self._start(request, None)
        try:
            return _reply(await running)
        finally:
            self._end(running)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def forward(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        running = self._start(request, forward)
        running.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield _reply(await running)
        finally:
            self._end(running)

    async def aclose(self) -> None:
        """Stops its own requests and waits until they are off the thread; the model stays in memory."""
        running = list(self._running)
        for stop in self._running.values():
            stop.set()
        if running:
            await asyncio.wait(running)

    def _start(
        self, request: ModelRequest, on_piece: Callable[[str], object] | None
    ) -> asyncio.Future[Generated]:
        body, stop = self._body(request), threading.Event()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._engine.executor, self._engine.generate, body, on_piece, stop)
        self._running[running] = stop
        self._calls += 1
        return running

    def _end(self, running: asyncio.Future[Generated]) -> None:
        """An abandoned request leaves the thread within one batch; nobody waits for it."""
        self._running.pop(running).set()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        window = self._info.window or WINDOW
        size = sum(len(message.content) for message in request.messages)
        if size > window * MOST_BYTES_PER_TOKEN:
            raise PromptTooLong(
                f"The prompt has {size} characters; the local model takes {window} tokens.", characters=size
            )
        body: dict[str, Any] = {
            "max_tokens": min(request.max_tokens or DEFAULT_REPLY_TOKENS, window),
            "temperature": request.temperature or 0.0,
            "seed": 0,
        }
        if request.raw and len(request.messages) == 1:
            body["prompt"] = _neutral(request.messages[0].content)
        else:
            body["messages"] = [{"role": m.role, "content": _neutral(m.content)} for m in request.messages]
        if request.grammar is not None:
            gbnf.check(request.grammar)
            body["grammar"] = request.grammar
        elif request.schema is not None:
            body["json_schema"] = dict(request.schema)
        return body


def _neutral(text: str) -> str:
    """Without role marks, and without lone surrogates, which JSON for llama.cpp cannot carry."""
    return _ROLE_MARK.sub("<| ", text).encode("utf-8", "replace").decode()


def _reply(done: Generated) -> ModelReply:
    usage = Usage(
        tokens_in=done.tokens_in, tokens_cached=done.tokens_cached, tokens_out=done.tokens_out, calls=1
    )
    details = {"logprob": done.logprob, "timings": dict(done.timings)}
    return ModelReply(done.text, usage, _FINISH.get(done.finish_reason, "other"), details)
