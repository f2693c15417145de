"""Work that comes to an answer, shown while it goes on: a question, a run taken up again, a fork."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import Cancelled, RlmError, StoreError
from terraphim_rlm.core.values import Answer
from terraphim_rlm.faces.cli import answers
from terraphim_rlm.faces.cli.approving import at_terminal
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.out import Voice
from terraphim_rlm.faces.cli.progress import Sink, shown
from terraphim_rlm.faces.cli.tree import RunTree

if TYPE_CHECKING:
    from terraphim_rlm.guard.asking import Decider

Start = Callable[[Sink, "Decider | None"], Coroutine[Any, Any, Answer]]
"""Begins the work; the sink gets its events, and whoever sits at the terminal decides what is asked."""


def answered(start: Start, voice: Voice) -> int:
    """Works, shows, prints; the exit code of an answer that fell short of one."""
    tree = RunTree()
    answer = _worked(start, voice, tree)
    error = answers.shortfall(answer)
    voice.give(
        answer.to_json(),
        answers.as_text(answer, free=tree.free),
        errors=[error.to_json()] if error else (),
    )
    if tree.ahead:
        voice.note(tree.ahead)
    if tree.model.startswith("local"):
        voice.note(answers.BUILT_IN)
    if error is None:
        return 0
    voice.note(f"{error.message}\n  fix: {error.fix}")
    return error.row.exit_code


def _worked(start: Start, voice: Voice, tree: RunTree) -> Answer:
    def stopping() -> None:
        tree.warnings.append("Stopping; Ctrl-C once more leaves at once.")

    decide = at_terminal(lambda: tree.pause(), quiet=voice.quiet)  # noqa: PLW0108 - set when it is drawn
    with shown(tree, voice.mode, lambda: work.cancel()) as sink:  # noqa: PLW0108 - made below
        work: Work[Answer] = Work(lambda: start(sink, decide), lambda: _stopped(tree), stopping)
        try:
            return work.run()
        except RlmError as error:
            if tree.run_id is not None and not isinstance(error, (Cancelled, StoreError)):
                error.details.setdefault("run", tree.run_id)
                voice.note(
                    f"What was done until then is kept: `trlm runs show {tree.run_id}`; "
                    f"it goes on from there by `trlm runs resume {tree.run_id}`."
                )
            raise


def _stopped(tree: RunTree) -> Cancelled:
    if tree.run_id is None:
        return Cancelled("Stopped before the run began; nothing was asked of a model.", fix="Ask again.")
    return Cancelled(
        f"Stopped. Kept: {tree.run_id} with {tree.kept()}.",
        fix=f"`trlm runs show {tree.run_id}` shows what was done; `trlm runs resume {tree.run_id}` goes on.",
        run=tree.run_id,
    )
