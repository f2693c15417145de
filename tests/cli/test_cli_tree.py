"""The tree of a run, folded from recorded events, and the lines it is shown as."""

from __future__ import annotations

from cli_kit import CHILD, ROOT, RUN, STEPS, Step, events

from terraphim_rlm.core.events import Event
from terraphim_rlm.faces.cli.progress import PlainLines, cropped, drawn
from terraphim_rlm.faces.cli.tree import Line, RunTree


def folded(steps: list[Step] = STEPS) -> RunTree:
    tree = RunTree()
    for event in events(steps):
        tree(event)
    return tree


def test_the_tree_shows_nodes_turns_cells_and_their_sub_calls() -> None:
    lines = [(line.indent, line.text) for line in folded().lines()]
    assert lines[0] == (0, "Who?  turn 1 · 2 sub-calls · final_var")
    assert lines[1] == (
        1,
        "python 1  parts = llm_query_batched(x)  exit_nonzero · 1.5 s · 2 sub-calls (1 failed)",
    )
    assert lines[2] == (1, "And the \\x1b[2Jrest?  turn 1 · final")
    assert lines[3] == (0, "! 80,000 of 100,000 tokens are used")


def test_a_node_at_work_says_what_it_does() -> None:
    assert "asking the model" in folded(STEPS[:3]).lines()[0].text
    assert "running code" in folded(STEPS[:6]).lines()[0].text


def test_the_header_sums_replies_and_sub_calls_and_sets_money_beside_its_limit() -> None:
    tree = folded(STEPS[:-1])
    assert tree.header(tree.started + 12).startswith(
        "12 s · depth 1 · $0.00004 of $2 · 242 tokens (220 in, 22 out) · 4 calls"
    )


def test_the_end_of_the_run_has_the_last_word_on_its_cost() -> None:
    assert "1,024 tokens" in folded().header()


def test_a_run_of_a_local_model_costs_nothing_and_says_so() -> None:
    step: Step = ("run.started", ROOT, None, {"model": "local/smollm2", "limits": {"dollars": 2.0}})
    assert folded([step]).header().startswith("0.0 s · depth 0 · $0 · ")


def test_ten_thousand_sub_calls_take_one_line_and_ten_thousand_cells_a_few() -> None:
    call: Step = ("call.finished", ROOT, None, {"ok": True, "failed": 0, "usage": {"calls": 1}})
    assert len(folded([*STEPS[:6], *[call] * 10_000]).lines()) == 2
    cells: list[Step] = [
        ("cell.started", ROOT, None, {"execution_id": str(n), "code": "x", "turn": n}) for n in range(10_000)
    ]
    tree = folded([*STEPS[:2], *cells])
    assert len(tree.lines()) == 14
    assert len(tree.nodes[ROOT].cells) == 200
    assert "9,988 earlier cells" in tree.lines()[1].text


def test_nodes_beyond_any_use_are_not_kept() -> None:
    nodes: list[Step] = [("node.started", f"n{n}", ROOT, {"depth": 1, "question": "q"}) for n in range(5_000)]
    tree = folded([*STEPS[:2], *nodes])
    assert len(tree.nodes) == 2_000


def test_events_with_data_of_wrong_types_are_taken_without_harm() -> None:
    for kind, node, parent, data in STEPS:
        tree = RunTree()
        for wrong in (None, [], "x", -1, {"a": 1}, 1e400):
            tree(Event(kind, RUN, node, parent, 1, 0.0, dict.fromkeys(data, wrong)))
        assert isinstance(tree.header(), str)
        assert all(isinstance(line.text, str) for line in tree.lines())


def test_plain_lines_tell_the_same_in_order_without_a_line_per_sub_call() -> None:
    tree, plain, lines = RunTree(), PlainLines(), []
    for event in events():
        tree(event)
        lines += plain(event, tree)
    assert lines == [
        f"{RUN}: openai/x over 5,000 bytes in 3 files",
        "turn 1: code",
        "  node: And the \\x1b[2Jrest?",
        "  node ended: final",
        "  python 1: exit_nonzero, 1.5 s, 2 sub-calls",
        "! 80,000 of 100,000 tokens are used",
        "run ended: final_var",
    ]


def test_a_tree_longer_than_the_terminal_keeps_its_head_and_its_latest_lines() -> None:
    lines = [Line(0, str(n), "cell") for n in range(100)]
    shown = cropped(lines, 10)
    assert [shown[0].text, shown[1].text, shown[-1].text, len(shown)] == ["0", "… 91 lines", "99", 10]
    assert cropped(lines[:5], 10) == lines[:5]
    assert len(cropped(lines, 1)) == 1


def test_what_is_drawn_fits_the_terminal_and_ends_with_the_cost() -> None:
    text = drawn(folded(), 24).plain
    assert " s · depth 1 · " in text.splitlines()[-1]
    assert "\x1b" not in text
    assert len(drawn(folded(), 3).plain.splitlines()) <= 3


def test_a_narrow_terminal_cuts_the_code_and_keeps_what_became_of_it() -> None:
    lines = drawn(folded(), 24, 44).plain.splitlines()
    cell = next(line for line in lines if "python 1" in line)
    assert "exit_nonzero" in cell
    assert next(line for line in lines if line.startswith("Who?")).endswith("final_var")
    long = Line(1, "python 1  " + "x" * 70, "cell", "ok · 0.1 s")
    assert long.fitted(40) == f"python 1  {'x' * 15}…  ok · 0.1 s"
    assert len(long.fitted(40)) == 38
    assert long.fitted(200) == long.text
    assert long.fitted(5) == long.text


def test_what_was_left_out_of_the_input_is_said() -> None:
    context = {"bytes": 10, "files": 2, "skipped": "1 binary files"}
    step: Step = ("run.started", ROOT, None, {"model": "local/x", "context": context})
    tree, plain = RunTree(), PlainLines()
    (event,) = events([step])
    tree(event)
    assert plain(event, tree) == [f"{RUN}: local/x over 10 bytes in 2 files; left out: 1 binary files"]
    assert tree.lines()[-1].text == "left out of the input: 1 binary files"


def test_a_child_that_comes_before_its_parent_does_not_break_the_tree() -> None:
    tree = folded([("node.started", CHILD, "node-unknown", {"depth": 1})])
    assert tree.lines() == []


def test_a_limit_is_told_where_it_cut_and_an_error_that_ends_the_run_is_left_to_the_end() -> None:
    limit: Step = ("error", ROOT, None, {"code": "E401", "message": "Of 10 tokens 9 are used."})
    fatal: Step = ("error", ROOT, None, {"code": "E205", "message": "Nobody answers."})
    tree, plain, lines = RunTree(), PlainLines(), []
    for event in events([STEPS[0], limit, fatal]):
        tree(event)
        lines += plain(event, tree)
    assert lines[1:] == ["! Of 10 tokens 9 are used."]
    assert [line.text for line in tree.lines()][1:] == ["! Of 10 tokens 9 are used."]
