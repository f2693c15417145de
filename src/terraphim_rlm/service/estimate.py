"""What a question would cost at most, and which way it would go: nobody is asked and nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.values import SCHEMA_VERSION, Limits, to_json
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.asker import most, prompt_characters, reply_tokens
from terraphim_rlm.engine.context import make_context
from terraphim_rlm.engine.hands import CELL_SECONDS
from terraphim_rlm.engine.prompts import Opening
from terraphim_rlm.engine.task import Route, Task
from terraphim_rlm.guard.judging import Guard
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.llm.profiles import PROFILES
from terraphim_rlm.llm.tokens import estimate as tokens_of
from terraphim_rlm.service.ask import AskRequest, named_inputs, opened
from terraphim_rlm.service.following import followed
from terraphim_rlm.service.schemas import as_json_schema, check_wanted


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a question would come to."""

    model: str
    sub_model: str
    way: Route
    """`direct`: one call with the whole input; `loop`: turns with code; `lookup`: the host's program for small models."""
    input_kind: str | None
    input_bytes: int
    input_files: int
    skipped: str
    """What of the input would be left out; empty when nothing would."""
    first_prompt_tokens: int
    """Of the first call, by our estimate; 0 for a look-up, which begins without a model."""
    most_tokens: int | None
    """That the run may use; None = no limit."""
    most_calls: int | None
    most_microdollars: int | None
    """That the run may cost; None = nobody knows, or no limit."""
    price_known: bool
    """False where a model has no price: what it costs is not counted, or is taken as the highest price known."""

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


async def estimate(request: AskRequest) -> Estimate:
    """Reads the input as `ask` would, and stops there.

    Raises:
        RlmError: what `ask` would raise before its first call.
    """
    async with opened(request) as (model, sub_model):
        schema = as_json_schema(request.schema)
        given = named_inputs(request)
        if given is None and request.follow is not None:
            given = list(followed(request.follow).paths) or None
        check_wanted(schema, model.info, "auto", over_input=given is not None)
        context = None if given is None else make_context(given)
        try:
            task = Task(request.question, context, model, sub_model, request.limits, Guard([]), schema=schema)
            return _estimated(task)
        finally:
            if context is not None:
                context.close()


def _estimated(task: Task) -> Estimate:
    context, limits, way = task.context, task.limits, task.way
    prompt = _FIRST[way](task)
    calls = 1 if way == "direct" else limits.calls
    tokens = limits.tokens
    if way == "direct":
        whole = prompt + reply_tokens(task.model)
        tokens = whole if tokens is None else min(whole, tokens)
    models = (task.model,) if way == "direct" else (task.model, task.sub_model)
    return Estimate(
        model=task.model.info.name,
        sub_model=task.sub_model.info.name,
        way=way,
        input_kind=context.kind if context else None,
        input_bytes=context.size if context else 0,
        input_files=len(context.spans) if context else 0,
        skipped=str(context.skipped) if context else "",
        first_prompt_tokens=prompt,
        most_tokens=tokens,
        most_calls=calls,
        most_microdollars=_most_money(models, tokens, prompt if way == "direct" else 0, limits),
        price_known=all(most(each.info.name, 1, 1, "refuse") is not None for each in models),
    )


def _most_money(
    models: tuple[ModelClient, ...], tokens: int | None, prompt: int, limits: Limits
) -> int | None:
    """All tokens at the dearest price that they can have, or the limit of money where that is less.

    Args:
        prompt: of `tokens`, those that are known to be a prompt.
    """
    found: list[int | None] = []
    if tokens is not None:
        rest = max(tokens - prompt, 0)
        for model in models:
            name = model.info.name
            found += [most(name, prompt, rest, limits.unpriced)]
            if not prompt:
                found += [most(name, tokens, 0, limits.unpriced)]
    known = [each for each in found if each is not None]
    by_tokens = max(known) if known and len(known) == len(found) else None
    by_limit = None if limits.dollars is None else round(limits.dollars * 1e6)
    return min((each for each in (by_tokens, by_limit) if each is not None), default=None)


def _first_turn(task: Task) -> int:
    bounds = prompts.bounds(CELL_SECONDS, prompt_characters(task.sub_model))
    opening = prompts.opening(Opening(task.question, task.context, bounds, task.schema, "00000000"))
    account = Ledger(task.limits).root
    header = prompts.turn_header(account.take_turn(), task.question, account)
    system = prompts.system(PROFILES[task.model.info.profile])
    return tokens_of(system) + tokens_of(f"{opening}\n\n{header}") + 8


def _first_direct(task: Task) -> int:
    assert task.context is not None
    text = prompts.direct(task.question, task.context.text(), task.schema)
    return tokens_of(prompts.DIRECT) + tokens_of(text) + 8


def _none(task: Task) -> int:
    return 0


_FIRST: dict[str, Callable[[Task], int]] = {"direct": _first_direct, "loop": _first_turn, "lookup": _none}
