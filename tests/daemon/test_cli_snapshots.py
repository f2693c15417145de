"""`trlm snapshot`, `rollback`, `branch` and `history`: a session's states and its past."""

from __future__ import annotations

import pytest
from daemon_kit import Cli

pytestmark = pytest.mark.sandbox


@pytest.fixture
def session(cli: Cli) -> str:
    return str(cli("session", "new", "--name", "work").out.strip())


def run(cli: Cli, code: str, session: str = "work") -> str:
    said = cli("exec", "--session", session, "-c", code)
    assert said.code == 0, said.err
    return said.out


@pytest.mark.usefixtures("session")
def test_a_mistake_is_taken_back_with_files_and_variables(cli: Cli) -> None:
    run(cli, "x = 1; open('a', 'w').write('good')")
    assert cli("snapshot", "create", "work", "good").out == "Kept as good.\n"
    run(cli, "x = 2; y = 3; open('a', 'w').write('bad'); open('b', 'w')")
    changed = cli("snapshot", "diff", "good").out.splitlines()
    assert changed == ["+ file      /work/b", "~ file      /work/a", "+ variable  y"]
    assert cli("rollback", "good").out == "Back at good.\n"
    assert run(cli, "import os; print(x, open('a').read(), os.path.exists('b'))") == "1 good False\n"
    assert cli("snapshot", "list", "--json").data["snapshots"][0]["rollbacks"] == 1


@pytest.mark.usefixtures("session")
def test_a_difference_that_does_not_name_all_says_so(cli: Cli) -> None:
    cli("snapshot", "create", "s")
    run(cli, "for n in range(10_001): open(f'/tmp/{n}', 'w').close()")
    assert "  and more files than are told of" in cli("snapshot", "diff", "s").out.splitlines()
    assert cli("snapshot", "diff", "s", "--json").data["truncated"] is True
    run(cli, "import os; os.remove('/tmp/0')")
    assert cli("snapshot", "diff", "s", "--json").data["truncated"] is False


@pytest.mark.usefixtures("session")
def test_single_paths_come_back_and_what_was_not_there_is_named(cli: Cli) -> None:
    run(cli, "x = 1; open('a', 'w').write('good')")
    cli("snapshot", "create", "s")
    run(cli, "x = 2; open('a', 'w').write('bad'); open('b', 'w')")
    said = cli("rollback", "work", "s", "--path", "a", "--path", "b", "--path", "c")
    assert said.out == "Brought back 2 paths of s.\n"
    assert "/work/c is neither in the snapshot nor in the session." in said.err
    assert run(cli, "import os; print(x, open('a').read(), os.path.exists('b'))") == "2 good False\n"


@pytest.mark.usefixtures("session")
def test_two_snapshots_are_compared_and_a_forgotten_one_is_gone(cli: Cli) -> None:
    cli("snapshot", "create", "one")
    run(cli, "open('a', 'w')")
    cli("snapshot", "create", "two")
    run(cli, "open('b', 'w')")
    assert cli("snapshot", "diff", "one", "--to", "two", "--json").data["added"] == ["/work/a"]
    assert cli("snapshot", "forget", "one").out == "Forgot one.\n"
    listed = cli("snapshot", "list").out.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["one", "forgotten"], ["two", "kept"]]
    said = cli("rollback", "one")
    assert (said.code, said.out) == (12, "")
    assert "[E701]" in said.err
    assert "There are: two." in said.err


@pytest.mark.usefixtures("session")
def test_branches_begin_as_the_session_or_as_a_snapshot_of_it_and_go_their_own_ways(cli: Cli) -> None:
    run(cli, "x = 1")
    cli("snapshot", "create", "s")
    run(cli, "x = 2")
    made = cli("branch", "work", "2", "--from", "s").out.split()
    now = cli("branch", "work", "1", "--json").data["sessions"]
    assert [run(cli, "x += 10; print(x)", each) for each in made] == ["11\n", "11\n"]
    assert run(cli, "print(x)", now[0]["id"]) == "2\n"
    assert run(cli, "print(x)") == "2\n"
    shown = cli("session", "show", made[0], "--json").data
    assert (shown["snapshot"], shown["status"]) == ("s", "live")


def test_the_only_session_is_branched_without_its_name(cli: Cli, session: str) -> None:
    assert cli("branch", "1", "--json").data["sessions"][0]["origin"] == session


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["rollback"], 2, "trlm rollback --help"),
        (["rollback", "a", "b", "c"], 2, "trlm rollback SESSION NAME"),
        (["rollback", "wark", "s"], 4, "nearest is work"),
        (["branch", "many"], 2, "trlm branch SESSION 2"),
        (["branch", "-1"], 2, "trlm branch --help"),
        (["branch", "1000"], 2, ""),
        (["snapshot", "create", "../x"], 2, ""),
        (["snapshot", "creat"], 2, "trlm snapshot create"),
        (["history", "--limit", "0"], 2, ""),
        (["history", "wrok"], 4, "nearest is work"),
    ],
)
def test_what_cannot_be_is_refused_with_a_fix(cli: Cli, words: list[str], exit_code: int, said: str) -> None:
    refused = cli(*words)
    assert (refused.code, refused.out) == (exit_code, ""), refused.err
    assert said in refused.err.partition("fix:")[2]
    assert len(cli(*words, "--json").json["errors"]) == 1


def test_history_is_what_was_executed_newest_first_also_after_the_end(cli: Cli, session: str) -> None:
    assert cli("history").out == "Nothing was executed.\n"
    run(cli, "print('\x1b[2Jhello')")
    cli("exec", "--session", "work", "-c", "1/0")
    cli("session", "destroy")
    lines = cli("history", session).out.splitlines()
    assert [" ok " in line for line in lines[1:]] == [False, True]
    assert "ZeroDivisionError: division by zero" in lines[1]
    assert "hello" in lines[2]
    assert "\x1b" not in "".join(lines)
    failed = cli("history", session, "--failures", "--json").data["executions"]
    assert [each["code"] for each in failed] == ["1/0"]
    assert len(cli("history", "--all", "--limit", "1", "--json").data["executions"]) == 1
    assert (
        cli("history", session, "--whole", "--limit", "1", "--json").data["executions"][0]["whole"]["code"]
        == "1/0"
    )
