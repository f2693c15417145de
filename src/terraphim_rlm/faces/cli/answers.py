"""An answer as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import (
    BudgetExceeded,
    Cancelled,
    CostBudgetExceeded,
    ModelRefused,
    ReplyInvalid,
    RlmError,
    TimeBudgetExceeded,
    TokenBudgetExceeded,
    TurnLimitExceeded,
)
from terraphim_rlm.core.values import Answer, Evidence
from terraphim_rlm.faces.cli.words import clean, dollars, one_line, plural, seconds, size, spent

if TYPE_CHECKING:
    from terraphim_rlm.service.estimate import Estimate

_QUOTE = 240
_SHOWN = 20
_ENDS: dict[str, type[RlmError]] = {
    "token_budget": TokenBudgetExceeded,
    "time_budget": TimeBudgetExceeded,
    "cost_budget": CostBudgetExceeded,
    "max_turns": TurnLimitExceeded,
    "stalled": ReplyInvalid,
    "refused": ModelRefused,
    "cancelled": Cancelled,
}
BUILT_IN = (
    "The built-in model only looks things up: it finds a passage and copies the answer out of it.\n"
    "For questions that need reasoning name a better one: --model ollama/NAME, openrouter/NAME or openai/NAME."
)


def shortfall(answer: Answer) -> RlmError | None:
    """Why an answer is only the best there was, as the error whose code the command ends with."""
    kind = _ENDS.get(answer.termination) if answer.partial else None
    if kind is None:
        return None
    limit, stopped = issubclass(kind, BudgetExceeded), kind is Cancelled
    why = "a limit" if limit else "whoever stopped it" if stopped else "the model"
    message = f"The run was ended by {why} ({answer.termination}); this is the best there was by then."
    fix = f"Go on with it: `trlm runs resume {answer.run_id}`." if stopped else ""
    return kind(message, fix=fix, run=answer.run_id)


def as_text(answer: Answer, *, free: bool) -> str:
    """The answer, its evidence as `path:line`, its confidence and its cost."""
    parts = [clean(answer.text) or "(no answer)", *evidence_lines(answer.evidence)]
    parts.append(_confidence(answer))
    parts.append(f"cost {' · '.join([*spent(answer.usage, free=free), seconds(answer.seconds)])}")
    return "\n".join(parts)


_WAYS = {
    "direct": "one call with the whole input",
    "loop": "turns in which the model works by code",
    "lookup": "a look-up by the host's program, with a small model for the leaves",
}


def estimate_as_text(found: Estimate, *, costs: bool) -> str:
    """What a question would come to, in words."""
    models = found.model if found.sub_model == found.model else f"{found.model}, sub-calls {found.sub_model}"
    given = f"{plural(found.input_files, 'file')}, {size(found.input_bytes)}" if found.input_kind else "none"
    lines = [f"way    {found.way}: {_WAYS[found.way]}", f"model  {models}", f"input  {given}"]
    if found.skipped:
        lines.append(f"       left out: {found.skipped}")
    if costs:
        lines += _most(found)
    return "\n".join([*lines, "No model was asked."])


def _most(found: Estimate) -> list[str]:
    parts = ["no limit of tokens" if found.most_tokens is None else plural(found.most_tokens, "token")]
    if found.most_calls is not None:
        parts.append(plural(found.most_calls, "call"))
    if found.most_microdollars is not None:
        parts.append(dollars(found.most_microdollars))
    elif not found.price_known:
        parts.append("a price that is not known")
    first = f"first  about {plural(found.first_prompt_tokens, 'token')} of prompt"
    return [f"most   {' · '.join(parts)}", *([first] if found.first_prompt_tokens else [])]


def evidence_lines(found: Sequence[Evidence]) -> list[str]:
    """Each piece as `path:line` with its quote; the first twenty."""
    lines = [_evidence(each) for each in found[:_SHOWN]]
    if (more := len(found) - _SHOWN) > 0:
        lines.append(f"  and {more:,} more; --json shows all")
    return lines


def evidence_of(data: Mapping[str, Any]) -> list[Evidence]:
    """The evidence in an `answer` event; what is malformed is left out."""
    found = data.get("evidence")
    return [
        Evidence(str(each["path"]), 0, 0, each["line"], str(each["quote"]), each.get("verified") is True)
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, dict) and isinstance(each.get("line"), int) and {"path", "quote"} <= each.keys()
    ]


def _evidence(found: Evidence) -> str:
    mark = "" if found.verified else "  (not found there by the host)"
    return f'  {one_line(found.path, 4096)}:{found.line}  "{one_line(found.quote, _QUOTE)}"{mark}'


def _confidence(answer: Answer) -> str:
    unsure = (
        "the evidence may not answer the question" if answer.evidence else "it rests on no quoted evidence"
    )
    words = {
        "verified": "verified: the host found the quoted evidence in the input itself",
        "unverified": f"unverified: {unsure}",
        "not_found": "not found: nothing in the input supports an answer",
    }
    partial = f"; partial, ended by {answer.termination}" if answer.partial else ""
    return f"{words.get(answer.confidence, answer.confidence)}{partial}"
