"""`trlm session`: made, listed, shown, extended, ended; and which one is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daemon_kit import Cli, trlm

pytestmark = pytest.mark.sandbox


def test_a_daemon_is_started_where_none_serves_and_keeps_the_session(own_data_folder: Path) -> None:
    try:
        made = trlm("session", "new", "--name", "work", data=own_data_folder)
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("sess-")
        assert made.stdout.count("\n") == 1, "a script takes the id from it"
        assert "trlm exec --session work" in made.stderr
        shown = json.loads(trlm("session", "show", "--json", data=own_data_folder).stdout)["data"]
        assert (shown["id"], shown["status"]) == (made.stdout.strip(), "live")
    finally:
        ended = trlm("serve", "--stop", data=own_data_folder)
    assert ended.stdout == "Ended, with 1 session.\n"


@pytest.mark.parametrize("command", [["session", "show"], ["session", "extend"], ["session", "destroy", "a"]])
def test_no_daemon_is_started_only_to_be_told_that_it_has_no_session(
    command: list[str], own_data_folder: Path
) -> None:
    said = trlm(*command, data=own_data_folder)
    assert (said.returncode, said.stdout) == (4, "")
    assert "[E651]" in said.stderr
    assert "trlm session new" in said.stderr
    assert not own_data_folder.exists()


def test_a_session_is_made_with_the_resources_that_the_options_say(cli: Cli) -> None:
    made = cli("session", "new", "--name", "small", "--memory", "128", "--disk", "16", "--json").data
    had = made["resources"]
    assert (made["name"], had["memory_mb"], had["disk_mb"], had["pids"]) == ("small", 128, 16, 256)
    text = cli("session", "show", "small").out
    assert "128.0 MB" in text
    assert made["id"] in text


def test_a_session_answers_to_its_name_its_id_and_a_beginning_of_that(cli: Cli) -> None:
    made = cli("session", "new", "--name", "work").out.strip()
    for wanted in ("work", made, made.lower(), made[:-1], made[5:-1]):
        assert cli("session", "show", wanted, "--json").data["id"] == made


def test_without_a_word_the_only_session_is_meant_and_several_are_listed(cli: Cli) -> None:
    one = cli("session", "new", "--name", "one").out.strip()
    assert cli("session", "extend", "--json").data["extensions"] == 1
    cli("session", "new", "--name", "two")
    said = cli("session", "extend")
    assert (said.code, said.out) == (2, "")
    assert "2 live: two, one." in said.err
    assert cli("session", "destroy", "two", "--json").data["status"] == "destroyed"
    assert cli("session", "show", "--json").data["id"] == one


def test_the_list_has_the_living_ones_and_all_of_them_on_request(cli: Cli) -> None:
    ended = cli("session", "new").out.strip()
    assert cli("session", "destroy").out == f"{ended} is gone, after 0 executions.\n"
    assert cli("session", "list").out == "No session lives. Make one: trlm session new\n"
    living = cli("session", "new").out.strip()
    assert [each["id"] for each in cli("session", "list", "--json").data["sessions"]] == [living]
    listed = cli("session", "list", "--all", "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in listed[1:]] == [living, ended]
    assert " destroyed " in listed[2]


def test_a_session_that_was_destroyed_is_told_apart_from_one_that_never_was(cli: Cli) -> None:
    cli("session", "new", "--name", "mine")
    assert cli("session", "destroy", "mine").code == 0
    assert "was destroyed. [E651]" in cli("session", "extend", "mine").err
    never = cli("session", "extend", "mime")
    assert (never.code, "The nearest is mine" in never.err) == (4, True)


def test_a_session_is_extended_three_times_at_most(cli: Cli) -> None:
    made = cli("session", "new", "--json").data
    said = [cli("session", "extend") for _ in range(4)]
    assert [each.code for each in said] == [0, 0, 0, 2]
    assert "[E654]" in said[3].err
    shown = cli("session", "show", "--json").data
    assert shown["expires"] - made["expires"] == pytest.approx(3 * 1800, abs=1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["new", "--name", "../x"], "E002", "cannot be called"),
        (["new", "--memory", "0"], "E002", "Give --memory a sensible value"),
        (["new", "--packages", "../x"], "E002", "../x"),
        (["new", "--sandbox", "cobol"], "E002", "cobol"),
        (["list", "--limit", "0"], "E002", "limit must be"),
        (["lst"], "E001", "Did you mean `trlm session list`?"),
        (["show", "a", "b"], "E002", "trlm session show --help"),
    ],
)
def test_what_cannot_be_is_refused_with_a_fix(cli: Cli, words: list[str], code: str, said: str) -> None:
    refused = cli("session", *words)
    assert (refused.code, refused.out) == (2, "")
    assert f"[{code}]" in refused.err
    assert said in refused.err
    assert cli("session", *words, "--json").json["errors"][0]["code"] == code


def test_the_daemons_words_reach_the_user_when_it_cannot_start(own_data_folder: Path) -> None:
    own_data_folder.mkdir()
    (own_data_folder / "journal.db").write_bytes(b"not a journal" * 100)
    said = trlm("session", "new", data=own_data_folder)
    assert said.returncode == 1
    assert "damaged" in said.stderr
    assert "Traceback" not in said.stderr
