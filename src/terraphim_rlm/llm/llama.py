"""llama.cpp inside this process: one model, one thread, one request at a time.

Measured with xllamacpp 2026.10.11549 and SmolLM2-135M-Instruct Q4_1 on two shared x86-64 cores (AVX2), by the
timings that llama.cpp reports and a wall clock, in November 2026:

- load 0.5 to 0.8 s when the file is in the page cache; resident memory 250 MB at a window of 4096;
- prefill 100 to 135 tokens/s, the same for batches of 64 to 2048, so the small batch, which bounds a
  cancellation to about 0.5 s, costs nothing; decode 45 to 65 tokens/s;
- a repeated prefix of 1,352 of 1,362 tokens: 14.0 s the first time, 0.66 s the second;
- four requests at once are no faster than one after the other (prefill is bound by arithmetic), so there is
  one slot, whose last prompt is the cached prefix of the next;
- more threads than free cores make it several times slower (they spin at barriers), so there is always one.

Rejected: the HTTP server that the library starts (a round trip, and a port that every local user may
probe). It cannot be switched off, so it is given a Unix socket in a private folder, deleted after the start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import Cancelled, ModelNotInstalled, ModelProtocol, PromptTooLong
from terraphim_rlm.llm.openmp import ensure_openmp

BATCH = 64
"""Tokens of prefill between two looks at the stop flag."""
SOCKET_PATH_MAX = 100
"""`sun_path` holds 108 bytes."""
PLAIN_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
"""ChatML without the system message that the model's own template adds: with it, greedy SmolLM2 answers
"What is the capital of France?" in broken French; without it, or with any other, "Paris"."""

STREAMED = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
CHAT_LOGPROBS = {"logprobs": True, "top_logprobs": 1}
PLAIN_LOGPROBS = {"n_probs": 1}


@dataclass(frozen=True, slots=True)
class Generated:
    """What one request came to."""

    text: str
    finish_reason: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    logprob: float
    """Sum of the natural log-probabilities of the text's tokens, before the grammar had its say."""
    timings: Mapping[str, float]
    """llama.cpp's own: `prompt_ms`, `prompt_per_second`, `predicted_ms`, `predicted_per_second` .."""


class LlamaEngine:
    """One model in memory. Methods block, and run on its own single thread (`executor`).

    Lives as long as the process: loading is dear, and idle it costs memory only.
    """

    def __init__(self, path: Path, window: int) -> None:
        self.path = path
        self.window = window
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trlm-llama")
        self.load_seconds: float | None = None
        self._server: Any = None

    def generate(
        self, body: Mapping[str, Any], on_piece: Callable[[str], object] | None, stop: threading.Event
    ) -> Generated:
        """Answers one request.

        Args:
            body: of llama.cpp's `/v1/chat/completions` (with `messages`) or `/v1/completions` (with `prompt`),
                without the fields for streaming and log-probabilities.
            on_piece: gets each piece of text, on this thread.
            stop: when set, generation ends within one batch.

        Raises:
            Cancelled: `stop` was set before the end.
            PromptTooLong: the prompt is longer than the window, by the model's own tokenizer.
            ModelProtocol: llama.cpp refused the request.
            ModelNotInstalled: the weights cannot be loaded.
        """
        if stop.is_set():
            raise Cancelled("The call of the local model was cancelled before it began.")
        if self._server is None:
            self._load()
        assert self._server is not None
        chunks = _Chunks(on_piece, stop)
        chat = "messages" in body
        handle = self._server.handle_chat_completions if chat else self._server.handle_completions
        try:
            handle({**body, **STREAMED, **(CHAT_LOGPROBS if chat else PLAIN_LOGPROBS)}, chunks.take)
        except (ValueError, RuntimeError) as error:
            raise ModelProtocol(f"The local model refused the request: {str(error)[:300]}") from error
        return chunks.result()

    def _load(self) -> None:
        ensure_openmp()
        import xllamacpp

        began = time.monotonic()
        folder = _private_folder()
        try:
            self._server = xllamacpp.Server(  # pyright: ignore[reportAttributeAccessIssue]
                _parameters(xllamacpp, self.path, self.window, folder / "llama.sock")
            )
        except RuntimeError as error:
            raise ModelNotInstalled(
                f"The weights in {self.path} cannot be loaded: {error}",
                fix="Get them again: `trlm models rm smollm2`, then `trlm models get smollm2`.",
                path=str(self.path),
            ) from error
        finally:
            shutil.rmtree(folder)
        self.load_seconds = time.monotonic() - began


class _Chunks:
    """Gathers the chunks of one stream. llama.cpp swallows what `take` raises, so it must not."""

    def __init__(self, on_piece: Callable[[str], object] | None, stop: threading.Event) -> None:
        self._on_piece = on_piece
        self._stop = stop
        self._pieces: list[str] = []
        self._finish = ""
        self._logprob = 0.0
        self._usage: Mapping[str, Any] | None = None
        self._timings: Mapping[str, float] = {}
        self._failure: BaseException | None = None

    def take(self, chunk: Any) -> bool:
        """True ends the stream."""
        try:
            for part in chunk if isinstance(chunk, list) else [chunk]:
                self._add(part)
        except BaseException as error:
            self._failure = error
        return self._failure is not None or self._stop.is_set()

    def _add(self, part: Mapping[str, Any]) -> None:
        if "error" in part:
            self._failure = _refusal(part["error"])
            return
        for choice in part.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            for token in (choice.get("logprobs") or {}).get("content") or ():
                self._logprob += token["logprob"] if token["bytes"] else 0.0  # the end mark has no bytes
            if piece := choice.get("text") or choice.get("delta", {}).get("content"):
                self._pieces.append(piece)
                if self._on_piece:
                    self._on_piece(piece)
        self._usage = part.get("usage") or self._usage
        self._timings = part.get("timings") or self._timings

    def result(self) -> Generated:
        if self._failure is not None:
            raise self._failure
        if self._usage is None or not self._finish:
            if self._stop.is_set():
                raise Cancelled("The call of the local model was cancelled.")
            raise ModelProtocol("The local model's reply broke off.", fix="Ask again with a shorter prompt.")
        return Generated(
            text="".join(self._pieces),
            finish_reason=self._finish,
            tokens_in=self._usage["prompt_tokens"],
            tokens_cached=(self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            tokens_out=self._usage["completion_tokens"],
            logprob=self._logprob,
            timings=self._timings,
        )


def _refusal(error: Mapping[str, Any]) -> PromptTooLong | ModelProtocol:
    if error.get("type") == "exceed_context_size_error":
        size, window = error.get("n_prompt_tokens"), error.get("n_ctx")
        return PromptTooLong(
            f"The prompt has {size} tokens; the local model takes {window}.", tokens=size, window=window
        )
    return ModelProtocol(f"The local model refused the request: {str(error.get('message'))[:300]}")


def _parameters(library: Any, path: Path, window: int, socket_path: Path) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = str(path)
    parameters.verbosity = -1
    parameters.n_ctx = window
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.cache_ram_mib = 0
    parameters.fit_params = False
    parameters.warmup = False
    parameters.chat_template = PLAIN_CHATML
    parameters.hostnames = [str(socket_path)]
    parameters.api_keys = [secrets.token_hex(32)]
    parameters.n_threads_http = 1
    return parameters


def _private_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="trlm-")
    if len(os.fsencode(folder)) > SOCKET_PATH_MAX:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="trlm-", dir="/tmp")
    return Path(folder)


_engines: dict[tuple[int, Path, int], LlamaEngine] = {}
_engines_lock = threading.Lock()


def engine_for(path: Path, window: int) -> LlamaEngine:
    """The process's engine for these weights. The pid is in the key: a forked child has none of its threads."""
    with _engines_lock:
        return _engines.setdefault((os.getpid(), path, window), LlamaEngine(path, window))
