"""SNAPSHOT and ROLLBACK in a reply: the state really is kept and really comes back, or the model is told why not."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_model_goes_back_after_a_mistake(ask: Any) -> None:
    asked = await ask(
        [
            "```python\nparts = [1, 2, 3]\nopen('notes', 'w').write('good')\nprint(len(context))\n```\nSNAPSHOT(before)",
            "```python\nparts.clear()\nopen('notes', 'w').write('bad')\n```",
            "ROLLBACK(before)\n```python\nprint(parts, open('notes').read())\n```",
            "FINAL_VAR(parts)",
        ]
    )
    assert asked.answer.value == [1, 2, 3]
    assert "Snapshot before is kept" in asked.said(2)
    assert "[1, 2, 3] good" in asked.said(4)
    assert [each["name"] for each in asked.of("snapshot.created")] == ["before"]
    assert [each["name"] for each in asked.of("snapshot.rolled_back")] == ["before"]


async def test_what_cannot_be_kept_or_found_is_told_to_the_model_and_stops_its_reply(ask: Any) -> None:
    asked = await ask(
        [
            "```python\nimport threading, time\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True, name='tick')\nt.start()\n```\nSNAPSHOT(one)\n```python\nnever = 1\n```",
            "ROLLBACK(nowhere)",
            "```python\nprint('never' in globals())\n```",
            "FINAL(done)",
        ]
    )
    assert asked.answer.text == "done"
    assert "the thread tick" in asked.said(2)
    assert "There is no snapshot 'nowhere'" in asked.said(3)
    assert "False" in asked.said(4)


async def test_a_child_node_cannot_take_its_parents_files_back(ask: Any) -> None:
    asked = await ask(
        [
            "```python\nprint(rlm_query('sub', 'text'))\n```",
            "SNAPSHOT(mine)",
            "FINAL(from the child)",
            "FINAL(done)",
        ]
    )
    assert asked.answer.text == "done"
    assert any("Only the node that owns the sandbox" in turn.messages[-1].content for turn in asked.turns)
    assert asked.of("snapshot.created") == []
