"""The use case of judging code, or a text for a model, without running anything."""

from __future__ import annotations

from typing import Any

from terraphim_rlm.core.errors import CodeBlocked, InvalidArgument
from terraphim_rlm.core.values import SCHEMA_VERSION, Verdict, to_json
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.guard.text import judge_text
from terraphim_rlm.sandbox.languages.table import SPOKEN, language

TEXT = "text"
"""In place of a language: a text that a model will read."""


async def check(code: str, tongue: str) -> Verdict:
    """What the guard says of `code`.

    Args:
        tongue: a language, another name of one, or `TEXT`.

    Raises:
        InvalidArgument: there is no such language.
    """
    if tongue == TEXT:
        return judge_text(code)
    try:
        name = language(tongue, SPOKEN).name
    except InvalidArgument as error:
        raise InvalidArgument(error.message, fix=f"{error.fix[:-1]}, or {TEXT}.", **error.details) from None
    async with make_guard() as guard:
        return await guard.verdict(code, name)


def verdict_to_json(code: str, verdict: Verdict) -> dict[str, Any]:
    """`{"schema_version", "decision", "findings"}`, each finding with its line and what stands there as well."""
    findings = [
        {
            **to_json(each),
            "line": code.count("\n", 0, each.start) + 1,
            "text": code[each.start : each.end][:200],
        }
        for each in verdict.findings
    ]
    return {"schema_version": SCHEMA_VERSION, "decision": verdict.decision, "findings": findings}


def refused(verdict: Verdict) -> CodeBlocked | None:
    """The error that a verdict comes to where somebody asked for it; None where the code would run."""
    if verdict.decision not in ("ask", "block"):
        return None
    rules = ", ".join(dict.fromkeys(each.rule for each in verdict.findings[:5]))
    return CodeBlocked(f"It would not be run ({rules}).", decision=verdict.decision)
