"""The process that reads code, as the host holds it: warm, asked over a socket, and killed when it does not answer."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from terraphim_rlm.core.process import start

_LENGTH = struct.Struct("<I")
_MOST_ANSWER = 1 << 20
"""Bytes of an answer."""
_GRAMMARS = (
    "tree_sitter",
    "tree_sitter_bash",
    "tree_sitter_javascript",
    "tree_sitter_rust",
    "tree_sitter_go",
)


class ReaderGone(Exception):
    """The process ended, or said what it should not."""


class Reader:
    """One process, started when this is made. Whoever makes it closes it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._is_ready = False
        script = str(Path(__file__).with_name("start.py"))
        with ExitStack() as undone, theirs:
            undone.enter_context(ours)
            self._process: subprocess.Popen[bytes] | None = start(
                [sys.executable, "-I", "-S", script, str(theirs.fileno()), *_places()],
                pass_fds=(theirs.fileno(),),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            undone.pop_all()

    async def ready(self, seconds: float) -> None:
        """Waits until it can be asked.

        Raises:
            ReaderGone: it ended before that.
            TimeoutError: it was not ready in time.
        """
        if not self._is_ready:
            async with asyncio.timeout(seconds):
                await self._receive()
            self._is_ready = True

    async def ask(self, code: str, language: str, seconds: float) -> list[list[object]]:
        """Its findings: `[rule, severity, start, end, message, advice]` each, in characters of `code`.

        Raises:
            ReaderGone: it ended, or gave up.
            TimeoutError: it did not answer in time.
        """
        body = json.dumps([language, code]).encode()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(self._socket, _LENGTH.pack(len(body)) + body)
                answer = await self._receive()
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise ReaderGone("its reader ended") from error
        if "gave_up" in answer:
            raise ReaderGone(str(answer["gave_up"])[:200])
        found: list[list[object]] = answer["findings"]
        return found

    async def _receive(self) -> dict[str, Any]:
        (size,) = _LENGTH.unpack(await self._exactly(_LENGTH.size))
        if size > _MOST_ANSWER:
            raise ReaderGone("its reader said too much")
        try:
            answer = json.loads(await self._exactly(size))
        except ValueError as error:
            raise ReaderGone("its reader spoke nonsense") from error
        if not isinstance(answer, dict):
            raise ReaderGone("its reader spoke nonsense")
        return answer

    async def _exactly(self, count: int) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < count:
            try:
                piece = await loop.sock_recv(self._socket, count - len(data))
            except OSError:
                piece = b""
            if not piece:
                raise ReaderGone("its reader ended: too much memory, or a parser that broke")
            data += piece
        return data

    async def close(self) -> None:
        """Kills it; returns when it is gone. Idempotent."""
        process, self._process = self._process, None
        self._socket.close()
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)


def _places() -> list[str]:
    """Where the process imports from: our package, and the grammars."""
    found = [str(Path(__file__).parents[3])]
    for name in _GRAMMARS:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parents[1]))
    return list(dict.fromkeys(found))
