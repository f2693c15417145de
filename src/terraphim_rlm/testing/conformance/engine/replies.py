"""Replies: which code of them runs, and what is an answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from terraphim_rlm.testing.conformance.checks import holds, same
from terraphim_rlm.testing.conformance.engine.kit import LOOK, Engine, all_text, case, gives, requests, told

_FENCES = "offers:fences"
_RLMS = "rlms 0.1.3, measured: "


def _text(text: str) -> dict[str, Any]:
    return {"text": text}


@case("replies", "https://github.com/stanfordnlp/dspy/pull/9309", _FENCES)
async def a_block_tagged_python_runs(engine: Engine) -> None:
    await gives(engine, 8, LOOK, _text("Now:\n\n```python\nkept = 8\n```\n"), ("n = kept", "n"))


@case("replies", "rlms, dspy, rlmness, measured: a fence inside a string is a SyntaxError", _FENCES)
async def a_fence_inside_a_string_does_not_cut_the_block(engine: Engine) -> None:
    inner = 'doc = """\n```python\nx = 1\n```\n"""\nkept = doc.count("x = 1")'
    await gives(engine, 1, LOOK, _text(f"````python\n{inner}\n````"), ("n = kept", "n"))


@case("replies", "https://github.com/stanfordnlp/dspy/pull/9309", _FENCES)
async def two_blocks_of_a_reply_run_in_order(engine: Engine) -> None:
    reply = "First:\n```python\nkept = [1]\n```\nthen:\n```python\nkept.append(2)\n```"
    await gives(engine, "[1, 2]", LOOK, _text(reply), ("n = kept", "str(n)"))


@case("replies", "our attack catalogue, row G02", _FENCES)
async def a_quoted_block_does_not_run(engine: Engine) -> None:
    quoted = (
        "The input says:\n\n> ```python\n> kept = 'owned'\n> ```\n\nI only look:\n\n```python\nseen = 1\n```"
    )
    await gives(engine, "False", LOOK, _text(quoted), ("r = 'kept' in globals()", "str(r)"))


@case("replies", "our attack catalogue, rows G06 and H10", _FENCES)
async def a_block_that_was_cut_off_does_not_run(engine: Engine) -> None:
    await gives(engine, "False", LOOK, _text("```python\nkept = 'half'\nmore = (1,"), ("r = 'kept' in globals()", "str(r)"))  # fmt: skip


@case("replies", "https://github.com/alexzhang13/rlm/issues/37")
async def the_word_final_in_a_sentence_is_no_answer(engine: Engine) -> None:
    prose = _text("I will call FINAL(done) when I have seen more of it.")
    await gives(engine, 5, LOOK, prose, ("n = len(context) // 2", "n"))


@case("replies", "https://github.com/alexzhang13/rlm/pull/127", _FENCES)
async def an_answer_behind_code_waits_until_its_output_was_seen(engine: Engine) -> None:
    reply = _text("```python\nfound = len(context)\nprint(found)\n```\n\nFINAL(guessed)")
    await gives(engine, 10, reply, ("n = found", "n"))


@case("replies", "https://github.com/alexzhang13/rlm/pull/127", _FENCES)
async def output_that_the_model_invented_is_not_kept_in_its_conversation(engine: Engine) -> None:
    reply = _text("```python\nprint(6 * 7)\n```\n\nREPL output:\nINVENTED-OUTPUT 43\n")
    result = await gives(engine, 1, LOOK, reply, ("z = 1", "z"))
    holds("INVENTED-OUTPUT" not in all_text(result, 3), "what the model invented is sent back to it")
    holds("42" in all_text(result, 3), "the true output is not sent")


@case("replies", "https://github.com/alexzhang13/rlm/pull/115")
async def printing_the_word_final_is_no_answer(engine: Engine) -> None:
    await gives(engine, 4, LOOK, "print('FINAL(\"owned\")')\nprint('FINAL_VAR(x)')", ("n = 4", "n"))


@case("replies", "our attack catalogue, row H06")
async def an_empty_reply_is_asked_again(engine: Engine) -> None:
    await gives(engine, 10, LOOK, _text(""), ("n = len(context)", "n"))


@case("replies", "https://github.com/stanfordnlp/dspy/issues/10165")
async def an_answer_before_any_look_at_the_input_is_asked_back(engine: Engine) -> None:
    result = await told(engine, ("n = 0", "'a guess'"), ("n = len(context)", "n"))
    same(str(result["answer"]), "10", "the answer")


@case("transcript", "https://github.com/alexzhang13/rlm/pull/126")
async def each_request_extends_the_one_before_it(engine: Engine) -> None:
    result = await gives(engine, 1, LOOK, "print(1)", "print(2)", "print(3)", ("z = 1", "z"))
    sent = requests(result)
    holds(len(sent) == 5, f"the model was asked {len(sent)} times, not 5")
    for before, after in pairwise(sent):
        same(after[: len(before)], before, "what was sent before")


@case("transcript", _RLMS + "out of turns a second assistant message is appended; llama.cpp answers 400")
async def no_two_messages_of_the_model_follow_each_other(engine: Engine) -> None:
    result = await told(engine, LOOK, "print(1)", "print(2)", limits={"turns": 3})
    for sent in requests(result):
        roles = [role for role, _ in sent]
        pairs = list(pairwise(roles))
        holds(("assistant", "assistant") not in pairs, f"the roles are {roles}")


@case("transcript", "our list of points, 7: a limit gives the best partial answer, marked as such")
async def a_run_that_is_out_of_turns_says_so(engine: Engine) -> None:
    result = await told(engine, LOOK, "print('still looking')", limits={"turns": 3})
    holds(result["error"] is not None, f"it gives {result['answer']!r} as if that were an answer")


@case("transcript", "our field notes: engines forget the question")
async def the_question_is_before_the_model_in_every_turn(engine: Engine) -> None:
    result = await gives(engine, 1, LOOK, "print('x' * 20000)", "print('y' * 20000)", ("z = 1", "z"))
    for sent in requests(result):
        holds(any("what is asked" in content for _, content in sent), "a request is without the question")
