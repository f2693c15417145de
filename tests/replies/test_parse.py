"""The rules that concern a reply as a whole."""

from __future__ import annotations

from terraphim_rlm.engine.replies import Code, Final, FinalVar, Shell, parse


def test_all_blocks_of_a_reply_are_commands_in_their_order() -> None:
    reply = "First:\n```python\nx = 1\n```\nthen\n```bash\nls\n```\nand\n~~~js\n1\n~~~\n"
    assert [(c.kind, reply[c.start : c.end].split("\n", 1)[0]) for c in parse(reply).commands] == [
        ("code", "```python"),
        ("shell", "```bash"),
        ("code", "~~~js"),
    ]


def test_a_final_after_code_is_held_and_the_model_is_told() -> None:
    parsed = parse("```python\nx = 1\n```\nFINAL_VAR(x)")
    assert parsed.commands == (Code("python", "x = 1", 0, 19),)
    assert [(d.reason, d.detail) for d in parsed.dropped] == [("final_held", "final_var")]
    assert "after you have seen the output" in (parsed.notice or "")


def test_a_final_by_itself_ends_the_reply() -> None:
    parsed = parse('FINAL("Paris")\n```python\nx = 1\n```')
    assert parsed.commands == (Final("Paris", "Paris", 0, 14),)
    assert [d.reason for d in parsed.dropped] == ["after_final"]


def test_words_and_fences_make_the_same_commands() -> None:
    assert parse("RUN(ls -l)").commands == (Shell("ls -l", 0, 10),)
    assert parse("FINAL_VAR(parts)").commands == (FinalVar("parts", 0, 16),)


def test_output_that_the_model_invented_leaves_the_transcript() -> None:
    reply = "Look:\n```python\nprint(1)\n```\nREPL output:\n1\n\nSo it is 1.\n```python\nprint(2)\n```\n"
    parsed = parse(reply)
    assert parsed.transcript == "Look:\n```python\nprint(1)\n```\n```python\nprint(2)\n```\n"
    assert [c.kind for c in parsed.commands] == ["code", "code"]
    assert [d.reason for d in parsed.dropped] == ["invented_output"]
