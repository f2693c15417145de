"""Sandboxes that stream or count wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutionResult, Output
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault


class Streams(Wrapped):
    """Streams otherwise."""

    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        async for piece in self._box.stream(*arguments, **options):
            yield self.passed(piece)

    def passed(self, piece: Any) -> Any:
        """What is given for a piece or a result."""
        return piece


@fault("streams nothing before the end", "stream")
class StreamsLate(Wrapped):
    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        for piece in [piece async for piece in self._box.stream(*arguments, **options)]:
            yield piece


@fault("streams errors as if they were output", "stream")
class MergesStreams(Streams):
    def passed(self, piece: Any) -> Any:
        return replace(piece, stream="stdout") if isinstance(piece, Output) else piece


@fault("cuts long pieces of what it streams", "stream")
class CutsPieces(Streams):
    def passed(self, piece: Any) -> Any:
        return replace(piece, text=piece.text[:4000]) if isinstance(piece, Output) else piece


@fault("streams no result", "stream")
class NoResult(Wrapped):
    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        kept: list[Any] = []
        async for piece in self._box.stream(*arguments, **options):
            kept.append(piece)
            if isinstance(piece, Output):
                yield piece
        if len(kept) > 1:
            yield kept[-1]


@fault("streams python only", "stream")
class OnlyPython(Wrapped):
    async def stream(self, code: Any, language: Any = "python", **options: Any) -> AsyncGenerator[Any, None]:
        if language == "bash":
            yield await self._box.run(code, language, **options)
            return
        async for piece in self._box.stream(code, language, **options):
            yield piece


@fault("lets code run on whose reader has left", "stream")
class RunsOn(Wrapped):
    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        running = asyncio.ensure_future(_drained(self._box.stream(*arguments, **options), pieces))
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if isinstance(piece, ExecutionResult):
                    return
        finally:
            self.__dict__.setdefault("running", []).append(running)

    async def close(self) -> None:
        await _stopped(self.__dict__.get("running", []))
        await self._box.close()


async def _drained(stream: Any, pieces: asyncio.Queue[Any]) -> None:
    try:
        async for piece in stream:
            pieces.put_nowait(piece)
    except Exception as error:
        pieces.put_nowait(error)


async def _stopped(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@fault("takes any language for python in a stream", "stream")
class Guesses(Wrapped):
    async def stream(self, code: Any, language: Any = "python", **options: Any) -> AsyncGenerator[Any, None]:
        try:
            async for piece in self._box.stream(code, language, **options):
                yield piece
        except InvalidArgument:
            async for piece in self._box.stream(str(code)):
                yield piece


class Counts(Wrapped):
    """Counts otherwise."""

    def statistics(self) -> Any:
        return self.counted(self._box.statistics())

    def counted(self, told: Any) -> Any:
        """What is given for the statistics."""
        return told


@fault("counts only what went well", "statistics")
class CountsSuccesses(Counts):
    def counted(self, told: Any) -> Any:
        return replace(told, executions=told.by_status.get("ok", 0))


@fault("counts a time-out as a failure", "statistics")
class CountsTimeouts(Counts):
    def counted(self, told: Any) -> Any:
        failed = told.by_status.get("exit_nonzero", 0) + told.by_status.get("timeout", 0)
        return replace(told, by_status={"ok": told.by_status.get("ok", 0), "exit_nonzero": failed})


@fault("counts commands as python", "statistics")
class CountsCommands(Counts):
    def counted(self, told: Any) -> Any:
        return replace(told, by_language={"python": told.executions})


@fault("counts no errors as output", "statistics")
class CountsStdout(Counts):
    def counted(self, told: Any) -> Any:
        return replace(told, output_bytes=max(0, told.output_bytes - 100))


@fault("counts each file once that is read", "statistics")
class CountsOnce(Counts):
    def counted(self, told: Any) -> Any:
        return replace(told, files_read_bytes=min(told.files_read_bytes, told.files_written_bytes))


@fault("counts nobody who waits", "statistics")
class CountsNoQueue(Counts):
    def counted(self, told: Any) -> Any:
        return replace(told, queue=replace(told.queue, waiting=0))


@fault("tells what it took up first, for ever", "statistics")
class Stale(Counts):
    def counted(self, told: Any) -> Any:
        first = self.__dict__.setdefault("first", told.consumption)
        return replace(told, consumption=first)
