"""Work begun while a reply still streams: its finished blocks are judged, and the model calls that they will make are started.

What is begun is a wish come early, under the same ledger and only where there is room at once: a call that no cell makes in
the end has been paid for nothing, and is counted. The guard speaks first; a block that it would stop begins nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.engine.foresight import foresee
from terraphim_rlm.engine.replies import Code, parse
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import ModelReply, ModelRequest

MOST_BEGUN = 256
"""Calls of one reply that are begun before it has ended."""
_STEPS_TO_RESERVE = 2
"""Of the event loop, until a call that was begun has reserved what it may cost: one, or two where it is shared. The next
one's room is known only then."""
_CLOSING = re.compile(r"^ {0,3}(?:```+|~~~+)[ \t]*\r?\n", re.MULTILINE)


class Early(Protocol):
    """How a call is made before a cell asks for it."""

    def begin(self, args: Mapping[str, Any]) -> tuple[ModelRequest, Awaitable[ModelReply], Usage] | None:
        """The request, the call, and what it costs at most if it is cut short; None where it must wait or is refused."""
        ...


class Ahead:
    """Calls that were begun and are not asked for yet. Each is given to one call of a cell, and to one only: whoever asks the
    same thing five times gets five answers."""

    def __init__(self) -> None:
        self._begun: dict[ModelRequest, deque[tuple[asyncio.Task[ModelReply], Usage]]] = defaultdict(deque)
        self.begun = self.used = 0

    def put(self, request: ModelRequest, call: Awaitable[ModelReply], most: Usage) -> None:
        task = asyncio.ensure_future(_made(call))
        task.add_done_callback(_seen)
        self._begun[request].append((task, most))
        self.begun += 1

    def holds(self, request: ModelRequest) -> bool:
        return bool(self._begun.get(request))

    def ready(self, request: ModelRequest) -> ModelReply | None:
        """The reply, where it has come already; it is taken then."""
        task, _ = self._begun[request][0]
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        self._take(request)
        return task.result()

    async def reply(self, request: ModelRequest) -> ModelReply:
        """The reply, when it comes. Raises what the call raises."""
        return await self._take(request)

    def _take(self, request: ModelRequest) -> asyncio.Task[ModelReply]:
        task, _ = self._begun[request].popleft()
        self.used += 1
        return task

    async def end(self) -> Usage:
        """Stops what nobody asked for; what it has cost, at most."""
        left = [each for calls in self._begun.values() for each in calls]
        self._begun.clear()
        cut = [not task.done() for task, _ in left]
        for task, _ in left:
            task.cancel()
        await asyncio.gather(*(task for task, _ in left), return_exceptions=True)
        spent = Usage()
        for (task, most), was_cut in zip(left, cut, strict=True):
            if was_cut:
                spent += most
            elif task.exception() is None:
                spent += task.result().usage
        return spent


async def _made(call: Awaitable[ModelReply]) -> ModelReply:
    return await call


def _seen(task: asyncio.Task[ModelReply]) -> None:
    """A call that nobody asked for may fail unheard."""
    if not task.cancelled():
        task.exception()


class Speculation:
    """One node's work ahead of its replies.

    Args:
        early: begins calls.
        ahead: holds them for the cells.
        prepare: gets a block ready to run; False when it may not.
        forget: what is prepared will not be used.
    """

    def __init__(
        self,
        early: Early,
        ahead: Ahead,
        prepare: Callable[[str], Awaitable[bool]],
        forget: Callable[[], None],
        tell: Teller,
    ) -> None:
        self._early = early
        self._ahead = ahead
        self._prepare = prepare
        self._forget = forget
        self._tell = tell
        self._text = ""
        self._looked = 0
        self._seen: set[int] = set()
        self._known: dict[str, Any] = {}
        self._blocks: asyncio.Queue[str] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A new reply begins."""
        self._text, self._looked = "", 0
        self._seen.clear()
        self._known.clear()
        self._blocks = asyncio.Queue()
        self._ahead.begun = self._ahead.used = 0
        self._forget()

    def heard(self, piece: str) -> None:
        """Takes the next piece of the reply."""
        self._text += piece
        if "\n" not in piece or _CLOSING.search(self._text, self._looked) is None:
            return
        self._looked = self._text.rfind("\n") + 1
        for command in parse(self._text[: self._looked]).commands:
            if isinstance(command, Code) and command.language == "python" and command.start not in self._seen:
                self._seen.add(command.start)
                self._blocks.put_nowait(command.code)
        if self._worker is None and not self._blocks.empty():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Blocks in their order: judged, then read, then what they will ask is asked."""
        while not self._blocks.empty():
            code = self._blocks.get_nowait()
            try:
                allowed = await self._prepare(code)
            except RlmError:
                return  # it will be met again, and told, when the block runs
            if not allowed:
                return  # nothing after it will run either
            for each in foresee(code, self._known):
                if self._ahead.begun >= MOST_BEGUN:
                    return
                begun = self._early.begin(each.args)
                if begun is not None:
                    self._ahead.put(*begun)
                    for _ in range(_STEPS_TO_RESERVE):
                        await asyncio.sleep(0)
        self._worker = None

    async def ready(self) -> None:
        """Returns when what the reply holds is prepared: its blocks may run now."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker

    async def end(self, turn: int) -> None:
        """The reply's blocks have run, or will not: what was begun for nothing is stopped and told."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        spent = await self._ahead.end()
        begun, used = self._ahead.begun, self._ahead.used
        self._ahead.begun = self._ahead.used = 0
        if begun:
            self._tell(
                "speculation.finished",
                turn=turn,
                begun=begun,
                used=used,
                wasted=begun - used,
                usage=to_json(spent),
            )
