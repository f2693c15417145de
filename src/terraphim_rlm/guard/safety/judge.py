"""The judge of safety: asks a process that parses the code, and gives that process up when it takes too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Finding, Verdict
from terraphim_rlm.guard.safety.process import Reader, ReaderGone

MOST_BYTES = 1 << 20
"""Of code in UTF-8. Whoever takes code from elsewhere may ask for less (`SafetyJudge.most_bytes`)."""
SECONDS = 1.0
"""That one verdict may take, the start of a process not counted."""
_READERS = 2
"""Processes at once: one that is stuck in hostile text must not make everybody else wait."""
_START_SECONDS = 20.0
_KEPT, _MOST_KEPT = 256, 20_000
"""Verdicts that are remembered, and the most characters of code for that."""
LANGUAGES = ("python", "bash", "sh", "javascript", "rust", "go")


class SafetyJudge:
    """Judges code by rules over its syntax. See `docs/guard.md`.

    Args:
        most_bytes: longer code is blocked unread.
        languages: code in any other one is blocked unread.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES, languages: tuple[str, ...] = LANGUAGES) -> None:
        if not 0 < most_bytes <= MOST_BYTES:
            raise InvalidArgument(f"most_bytes must be 1 to {MOST_BYTES:,}, not {most_bytes!r}.")
        self._most_bytes = most_bytes
        self._languages = languages
        self._idle: list[Reader] = []
        self._places: asyncio.Semaphore | None = None
        self._known: OrderedDict[tuple[str, str], Verdict] = OrderedDict()

    def warm(self) -> None:
        """Starts a reader if there is none; returns before it is ready."""
        if not self._idle and (self._places is None or not self._places.locked()):
            with contextlib.suppress(OSError):  # there is no room for one now; who asks will be told
                self._idle.append(Reader())

    async def judge(self, code: str, language: str) -> Verdict:
        """See `Judge.judge`."""
        if (refused := self._unread(code, language)) is not None:
            return refused
        if (known := self._known.get((language, code))) is not None:
            self._known.move_to_end((language, code))
            return known
        self._places = self._places or asyncio.Semaphore(_READERS)
        async with self._places:
            verdict = await self._asked(code, language)
        if len(code) <= _MOST_KEPT and not any(each.rule == "unread" for each in verdict.findings):
            self._known[language, code] = verdict
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return verdict

    def _unread(self, code: str, language: str) -> Verdict | None:
        """The verdict on what is not even read."""
        if language not in self._languages:
            told = f"There are no rules for {language[:40]!r}."
            return _whole(code, "language", told, f"Use one of: {', '.join(self._languages)}.")
        size = len(code.encode("utf-8", "surrogatepass")) if len(code) * 4 > self._most_bytes else 0
        if size > self._most_bytes:
            told = f"It has {size:,} bytes, and {self._most_bytes:,} are the most."
            return _whole(code, "length", told, "Put data into a file, and let short code read it.")
        return None

    async def _asked(self, code: str, language: str) -> Verdict:
        try:
            reader = self._idle.pop() if self._idle else Reader()
        except OSError as error:
            told = f"It was given up unread: there is no room for a process that reads it ({error.strerror})."
            return _whole(code, "unread", told, "Raise the limits of this process, and try again.")
        try:
            await reader.ready(_START_SECONDS)
            found = await reader.ask(code, language, SECONDS)
        except (ReaderGone, TimeoutError) as error:
            await reader.close()
            why = "it took too long to read" if isinstance(error, TimeoutError) else str(error)
            return _whole(
                code, "unread", f"It was given up unread: {why}.", "Write it shorter and less deeply nested."
            )
        except BaseException:
            await reader.close()
            raise
        self._idle.append(reader)
        return _verdict(found, len(code))

    async def close(self) -> None:
        """Ends its processes."""
        idle, self._idle = self._idle, []
        self._places = None
        for reader in idle:
            with contextlib.suppress(ReaderGone):
                await reader.close()


def _whole(code: str, rule: str, message: str, advice: str) -> Verdict:
    return Verdict("block", (Finding(rule, "high", 0, len(code), message, advice),))


def _verdict(found: list[list[object]], size: int) -> Verdict:
    """What a reader said, with its numbers held to the code's bounds.

    The gravest finding decides: high and critical block, medium warns, low and info are only told.
    """
    findings = []
    for rule, severity, start, end, message, advice in found:
        low = min(max(int(start), 0), size)  # type: ignore[call-overload]
        high = min(max(int(end), low), size)  # type: ignore[call-overload]
        findings.append(Finding(str(rule), str(severity), low, high, str(message), str(advice)))  # type: ignore[arg-type]
    severities = {finding.severity for finding in findings}
    decision = "block" if severities & {"high", "critical"} else "warn" if "medium" in severities else "allow"
    return Verdict(decision, tuple(findings))  # type: ignore[arg-type]
