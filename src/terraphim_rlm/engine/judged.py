"""The guard, as the engine asks it: about each cell that a model wrote, before it runs."""

from __future__ import annotations

from typing import Protocol

from terraphim_rlm.core.values import Verdict


class Guard(Protocol):
    """Judges code before it runs. `guard.judging.Guard` is one, and has hooks and somebody to ask besides."""

    async def verdict(self, code: str, language: str) -> Verdict: ...


class EarlyGuard:
    """A guard that may be asked while the reply still streams; what it said then, it is not asked again."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._early: dict[tuple[str, str], Verdict] = {}

    async def ahead(self, code: str, language: str) -> bool:
        """Whether the code may run."""
        verdict = self._early[code, language] = await self._guard.verdict(code, language)
        return verdict.decision in ("allow", "warn")

    async def verdict(self, code: str, language: str) -> Verdict:
        return self._early.pop((code, language), None) or await self._guard.verdict(code, language)

    def forget(self) -> None:
        """What was judged and did not run."""
        self._early.clear()
