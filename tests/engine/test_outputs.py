"""Output that is longer than what its model is shown: kept whole, in a variable and on disk, and said how to page."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

PRINTS = "```python\nfor n in range(20_000): print('line', n, 'é')\n```"


async def test_a_long_output_is_whole_in_a_variable_and_in_a_file_and_the_model_is_told_how_to_page(
    ask: Any,
) -> None:
    reads = (
        "```python\nwhole = ''.join(f'line {n} é\\n' for n in range(20_000))\n"
        "FINAL([str(outputs[1]) == whole, open('.outputs/1.txt').read() == whole,\n"
        " lines(500, 500, outputs[1]), [hit.line for hit in grep('line 19999 ', outputs[1])]])\n```"
    )
    asked = await ask([PRINTS, reads])
    finished = asked.of("cell.finished")[0]

    assert asked.answer.value == [True, True, "line 499 é\n", [20_000]]
    assert finished["spill_path"] == "/work/.outputs/1.txt"
    for way in ("outputs[1]", "lines(1, 80, outputs[1])", "/work/.outputs/1.txt"):
        assert way in asked.said(2), way


async def test_an_output_that_is_shown_whole_is_kept_nowhere(ask: Any) -> None:
    asked = await ask(
        ["```python\nprint('x' * 7_000)\n```", "```python\nimport os\nFINAL([outputs, os.listdir('.')])\n```"]
    )

    assert asked.answer.value == [{}, []]
    assert asked.of("cell.finished")[0]["spill_path"] is None


async def test_an_output_that_is_cut_but_not_long_is_in_the_variable_alone(ask: Any) -> None:
    asked = await ask(
        ["```python\nprint('x' * 30_000)\n```", "```python\nFINAL([len(outputs[1]), sorted(outputs)])\n```"]
    )

    assert asked.answer.value == [30_001, [1]]
    assert asked.of("cell.finished")[0]["spill_path"] is None


async def test_what_a_shell_command_prints_can_be_paged_as_well(ask: Any) -> None:
    asked = await ask(["```bash\nseq 1 30000\n```", "```python\nFINAL(lines(30000, text=outputs[1]))\n```"])

    assert asked.answer.value == "30000\n"
    assert "outputs[1]" in asked.said(2)


@pytest.mark.parametrize(
    "harm", ["outputs = None", "outputs.clear()", "del outputs", "import builtins; lines = 1"]
)
async def test_the_kept_output_is_there_again_whatever_code_did_to_its_name(ask: Any, harm: str) -> None:
    asked = await ask([PRINTS, f"```python\n{harm}\n```", "```python\nFINAL(lines(2, 2, outputs[1]))\n```"])

    assert asked.answer.value == "line 1 é\n"


async def test_where_the_output_cannot_be_written_the_variable_still_has_it(ask: Any) -> None:
    taken = "```python\nopen('.outputs', 'w').close()\nprint('y' * 100_000)\n```"
    asked = await ask([taken, "```python\nFINAL(len(outputs[1]))\n```"])

    assert asked.answer.value == 100_001
    assert asked.of("cell.finished")[0]["spill_path"] is None
    assert "file" not in asked.said(2).split("outputs[1]")[-1].split("Turn 2")[0]


async def test_an_interpreter_that_died_while_it_printed_leaves_the_file(ask: Any) -> None:
    dies = "```python\nimport os\nprint('z' * 100_000, flush=True)\nos.kill(os.getpid(), 9)\n```"
    asked = await ask([dies, "```python\nFINAL([outputs, len(open('.outputs/1.txt').read())])\n```"])

    assert asked.answer.value == [{}, 100_001]
