"""A person decides: what is asked, for how long, and what counts as a yes."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Finding

ASK_SECONDS = 60.0
"""That a person has for one answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person is asked."""

    question: str
    text: str
    """What it is about: code, or a prompt or reply that a hook asks about."""
    language: str = ""
    """Of code."""
    findings: tuple[Finding, ...] = ()
    run: str = ""
    node: str = ""
    seconds: float = ASK_SECONDS
    """Left for an answer."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of it."""

    approved: bool
    why: str
    """Who said so, or why it is a no."""


Decider = Callable[[Asked], bool | Awaitable[bool]]
"""Only `True` is a yes. A function that is not async runs in a thread of its own."""


class Asking:
    """Asks one thing at a time. No answer, a late one and a failure are a no.

    Args:
        decide: whom to ask.
        seconds: that one answer may take.
    """

    def __init__(self, decide: Decider, seconds: float = ASK_SECONDS) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86_400:
            raise InvalidArgument(
                f"ask_seconds must be more than 0 and at most 86,400, not {seconds!r}.", name="ask_seconds"
            )
        self._decide = decide
        self.seconds = float(seconds)
        self._turn: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def decided(self, asked: Asked) -> Decided:
        """What the person says; the time counts from when nobody else is asked."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._loop is not loop:
            self._turn, self._loop = asyncio.Lock(), loop
        async with self._turn:
            try:
                async with asyncio.timeout(min(asked.seconds, self.seconds)):
                    answer = await self._answer(asked)
            except TimeoutError:
                return Decided(False, f"nobody answered within {min(asked.seconds, self.seconds):g} s")
            except Exception as error:  # whoever was to decide failed, and so did not say yes
                return Decided(False, f"asking failed: {type(error).__name__}: {error}"[:300])
        return Decided(True, "a person said yes") if answer is True else Decided(False, "a person said no")

    async def _answer(self, asked: Asked) -> Any:
        if inspect.iscoroutinefunction(self._decide):
            return await self._decide(asked)
        answer = await _in_thread(lambda: self._decide(asked))
        return await answer if inspect.isawaitable(answer) else answer


async def _in_thread(work: Callable[[], Any]) -> Any:
    """As `asyncio.to_thread`, in a thread that nothing waits for at the end: it may wait for a person for ever."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def done(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(done, result, error)

    threading.Thread(target=run, daemon=True, name="asking").start()
    return await future
