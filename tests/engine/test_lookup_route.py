"""The look-up through the engine: search in a real sandbox, leaves under the ledger, limits told truly."""

from __future__ import annotations

from typing import Any

import pytest

from terraphim_rlm import Limits

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

TEXT = "The quay is long.\n\nThe night ferry from Oban to Staffa leaves at 21:40 sharp.\n\nIt rains.\n"
QUESTION = "When does the night ferry from Oban to Staffa leave?"


async def test_a_fact_is_found_quoted_and_counted(ask: Any) -> None:
    asked = await ask([], TEXT, question=QUESTION, route="lookup", sub_reply=" 21:40")
    (item,) = asked.answer.evidence

    assert (asked.answer.termination, asked.answer.partial) == ("final", False)
    assert "21:40" in asked.answer.value
    assert (item.line, TEXT[item.start : item.end]) == (3, item.quote)
    assert asked.answer.usage.calls == len(asked.of("call.finished")) > 0


async def test_what_the_input_does_not_say_is_not_found(ask: Any) -> None:
    asked = await ask([], TEXT, question="Who founded Timbuktu in 1100?", route="lookup", sub_reply=" Oban")

    assert (asked.answer.text, asked.answer.value, asked.answer.confidence) == (
        "not found",
        None,
        "not_found",
    )


async def test_a_budget_without_room_for_the_model_is_said_and_the_answer_marked(ask: Any) -> None:
    asked = await ask(
        [], TEXT, question=QUESTION, route="lookup", sub_reply=" 21:40", limits=Limits(tokens=5)
    )

    assert (asked.answer.termination, asked.answer.partial) == ("token_budget", True)
    assert asked.answer.usage.calls == 0


async def test_time_that_is_over_before_the_search_gives_a_partial_answer(ask: Any) -> None:
    asked = await ask([], TEXT, question=QUESTION, route="lookup", limits=Limits(seconds=0.0001))

    assert (asked.answer.termination, asked.answer.partial, asked.answer.text) == ("time_budget", True, "")
