"""The guard, as the engine asks it: about each cell that a model wrote, before it runs."""

from __future__ import annotations

from typing import Protocol

from terraphim_rlm.core.values import Verdict, to_json
from terraphim_rlm.engine.replies import Code
from terraphim_rlm.engine.telling import Teller


class Guard(Protocol):
    """Judges code before it runs."""

    async def verdict(self, code: str, language: str) -> Verdict: ...


async def told_verdict(guard: Guard, command: Code, number: str, tell: Teller) -> Verdict:
    """What the guard says of a cell; told, unless it says nothing against it."""
    verdict = await guard.verdict(command.code, command.language)
    if verdict.findings or verdict.decision != "allow":
        tell("verdict", execution_id=number, **to_json(verdict))
    return verdict
