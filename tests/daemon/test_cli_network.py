"""`--allow`, and what `trlm session network` and the daemon's route show."""

from __future__ import annotations

import pytest
from daemon_kit import Cli

pytestmark = pytest.mark.sandbox
FETCH = "import urllib.request\ntry: urllib.request.urlopen('http://evil.example/')\nexcept OSError as error: print(error)"


def test_a_session_reaches_what_its_option_allows_and_shows_what_was_refused(cli: Cli) -> None:
    made = cli(
        "session",
        "new",
        "--name",
        "net",
        "--allow",
        "docs.example.org,*.example.com",
        "--allow",
        "a.example:8443",
        "--json",
    ).data
    assert made["resources"]["network"] == ["docs.example.org", "*.example.com", "a.example:8443"]
    done = cli("exec", "--session", "net", "-c", FETCH)
    assert "403: evil.example is not allowed" in done.out
    assert "Network refused: evil.example is not allowed" in done.err
    (found,) = cli("session", "network", "net", "--json").data["accesses"]
    assert (found["data"]["decision"], found["data"]["name"], found["data"]["port"]) == (
        "refused",
        "evil.example",
        80,
    )
    text = cli("session", "network").out
    assert "evil.example:80" in text
    assert cli("session", "network", "--refused", "--limit", "1").out == text
    assert "docs.example.org, *.example.com, a.example:8443" in cli("session", "show", "net").out


@pytest.mark.parametrize("wrong", ["https://a.example", "*", "a.example:99999"])
def test_what_cannot_be_allowed_is_refused_by_the_option_s_name(cli: Cli, wrong: str) -> None:
    said = cli("session", "new", "--allow", wrong)
    assert said.code == 2
    assert f"--allow holds {wrong!r}" in said.err
    assert "docs.example.org" not in said.out


def test_a_session_keeps_what_it_may_reach(cli: Cli) -> None:
    cli("session", "new", "--name", "net")
    said = cli("exec", "--session", "net", "--allow", "a.example", "-c", "1")
    assert (said.code, said.out) == (2, "")
    assert "--allow cannot change that" in said.err
    assert cli("session", "network", "net").out == "Nothing was reached, nothing refused.\n"
