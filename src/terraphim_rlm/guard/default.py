"""The guards of whoever brings none of his own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from terraphim_rlm.guard.asking import ASK_SECONDS, Asking, Decider
from terraphim_rlm.guard.hooks import Hook, Hooks
from terraphim_rlm.guard.judging import RETRIES, Guard, GuardMode, Judge
from terraphim_rlm.guard.safety.judge import SafetyJudge

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.vocabulary import Strictness


def make_guard(
    mode: GuardMode = "block",
    *,
    graph: str | Path | None = None,
    strictness: Strictness = "normal",
    least_ratio: float = 0.1,
    retries: int = RETRIES,
    ask: Decider | None = None,
    ask_seconds: float = ASK_SECONDS,
    hooks: Sequence[Hook] = (),
) -> Guard:
    """The safety rules, and what else is wanted. Whoever makes it closes it: `async with make_guard(..) as guard`.

    Args:
        mode: `block`, `warn` or `off`; of the safety rules and the knowledge graph together.
        graph: a knowledge graph that code is held to; see `guard.kg.library.read`. Models get `kg_chunks` of it.
        strictness: how strictly; see `guard.kg.vocabulary.Strictness`.
        least_ratio: least share of known words, of `normal`.
        retries: in a row that a model has before a person is asked whether code in unknown words may run.
        ask: decides then, and where a hook asks; None = nobody: such a run ends with an error that says what is asked.
        ask_seconds: that one decision may take; no answer is a no.
        hooks: before and after executions and model calls, in this order.
    """
    judges: list[Judge] = [SafetyJudge()]
    if graph is not None:
        from terraphim_rlm.guard.kg.library import Library
        from terraphim_rlm.guard.kg.vocabulary import KgJudge, Strict

        judges.append(KgJudge(Library(Path(graph).expanduser()), Strict(strictness, least_ratio)))
    asking = None if ask is None else Asking(ask, ask_seconds)
    return Guard(judges, mode, asking=asking, retries=retries, hooks=Hooks(hooks))
