"""A model played by whoever watches a folder: a person with an editor, or another program.

Each request is a file `NNNN.request.json`; its reply is `NNNN.reply.txt`, or `NNNN.reply.json` with
`{"reply", "usage"?}`. Several requests may wait at once.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from terraphim_rlm.core.errors import InvalidArgument, ModelProtocol
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.scripted import NO_USAGE, parse_row
from terraphim_rlm.llm.tokens import estimated_usage

REPLY_BYTES = 16 * 1024 * 1024
FIRST_LOOK = 0.02
LONGEST_LOOK = 0.5
"""Seconds between two looks for a reply; they double from the first to the longest."""
_NUMBERED = re.compile(r"(\d{4,9})\.")


class ManualModel:
    """Asks by files, waits for files.

    A reply is taken when two looks in a row find it unchanged, so a slow writer is not cut short; an empty
    text file is not a reply yet (write `{"reply": ""}` as JSON for that). The request of a cancelled call is
    renamed to `NNNN.cancelled.json`. Numbers go on after the highest in the folder.

    Args:
        folder: made if it is not there.
        sleep: what waiting is; a test may hand in its own.

    Raises:
        InvalidArgument: the folder cannot be made or written.
    """

    def __init__(
        self, folder: str | Path, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        self._folder = Path(folder)
        self._sleep = sleep
        self._info = ModelInfo(f"manual:{folder}", local=True)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise self._unwritable("permission denied")

    @property
    def info(self) -> ModelInfo:
        return self._info

    async def complete(self, request: ModelRequest) -> ModelReply:
        number = self._publish(request)
        try:
            return await self._answer(number, request)
        except BaseException:
            self._withdraw(number)
            raise

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        reply = await self.complete(request)
        if reply.text:
            yield reply.text
        yield reply

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _publish(self, request: ModelRequest) -> str:
        """Writes under a name that nobody reads, then links it to the first number that is free."""
        descriptor, temporary = tempfile.mkstemp(prefix=".request-", dir=self._folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._as_json(request), file, indent=1)
            number = self._highest()
            while True:
                number += 1
                name = f"{number:04d}"
                try:
                    os.link(temporary, self._folder / f"{name}.request.json")
                except FileExistsError:
                    continue
                return name
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            os.unlink(temporary)

    def _as_json(self, request: ModelRequest) -> dict[str, Any]:
        optional = {
            "grammar": request.grammar,
            "schema": request.schema and dict(request.schema),
            "max_tokens": request.max_tokens,
        }
        return {
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "model": self._info.name,
            "node": request.node,
            "purpose": request.purpose,
            **{key: value for key, value in optional.items() if value is not None},
        }

    def _highest(self) -> int:
        numbers = [
            int(found.group(1)) for name in os.listdir(self._folder) if (found := _NUMBERED.match(name))
        ]
        return max(numbers, default=0)

    async def _answer(self, number: str, request: ModelRequest) -> ModelReply:
        pause, before = FIRST_LOOK, None
        while True:
            await self._sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK)
            seen = self._look(number)
            if seen is not None and seen == before:
                return self._read(seen[0], request)
            if seen != before:
                pause, before = FIRST_LOOK, seen

    def _look(self, number: str) -> tuple[Path, int, int] | None:
        for suffix in ("json", "txt"):
            path = self._folder / f"{number}.reply.{suffix}"
            try:
                found = path.stat()
            except OSError:
                continue
            if found.st_size:
                return path, found.st_size, found.st_mtime_ns
        return None

    def _read(self, path: Path, request: ModelRequest) -> ModelReply:
        try:
            with path.open("rb") as file:
                raw = file.read(REPLY_BYTES + 1)
            if len(raw) > REPLY_BYTES:
                raise ModelProtocol(f"{path} has more than {REPLY_BYTES:,} bytes.", path=str(path))
            text = raw.decode("utf-8")
            reply = parse_row(text, str(path))[0] if path.suffix == ".json" else ModelReply(text)
        except (OSError, UnicodeDecodeError, InvalidArgument) as error:
            fix = 'Write UTF-8 text, or JSON as {"reply": "..", "usage"?: {..}}.'
            raise ModelProtocol(
                f"The reply {path} cannot be used: {error}", fix=fix, path=str(path)
            ) from error
        usage = estimated_usage(request, reply.text) if reply.usage == NO_USAGE else reply.usage
        return ModelReply(reply.text, usage, reply.finish_reason)

    def _withdraw(self, number: str) -> None:
        path = self._folder / f"{number}.request.json"
        if path.exists():
            path.rename(self._folder / f"{number}.cancelled.json")

    def _unwritable(self, why: object) -> InvalidArgument:
        return InvalidArgument(
            f"The folder {self._folder} of the manual model cannot be used: {why}",
            fix="Name a folder that you may write.",
        )
