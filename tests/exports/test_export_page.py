"""The one-page export, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from exports_kit import CHROMIUM, Browser, Written, browser

from terraphim_rlm.service.exports.export import export_run
from terraphim_rlm.service.exports.parts import MOST_TEXT, Room, shown

HOSTILE = (
    "</pre></script></style><script>window.pwned=1;alert(1)</script><img src='http://canary.invalid/i.png' onerror='window.pwned=2'>"
    "<svg onload='window.pwned=3'><style>@import url(http://canary.invalid/s.css);</style><iframe src='http://canary.invalid/f'></iframe>"
    "\" autofocus onfocus='window.pwned=4' x=\"<a href='javascript:window.pwned=5'>x</a><meta http-equiv=refresh content='0;url=http://canary.invalid/'>"
    "<link rel=stylesheet href=http://canary.invalid/l.css><form action=http://canary.invalid/><input name=a></form>]]>--><base href=http://canary.invalid/>"
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def page_of(run: str, folder: Path) -> Path:
    file = folder / "run.html"
    file.write_text(export_run(run, "html").text, encoding="utf-8")
    return file


@needs_chromium
def test_what_a_run_said_neither_runs_in_its_page_nor_makes_it_ask_anyone(
    chromium: Browser, tmp_path: Path
) -> None:
    page = page_of(Written(HOSTILE).run, tmp_path)
    chromium.open(page)
    assert chromium.value("typeof window.pwned") == "undefined"
    assert chromium.requests == [page.as_uri()]
    assert chromium.dialogs == []
    assert (
        chromium.value("document.querySelectorAll('img, iframe, form, base, link, script').length") == 1
    )  # its own script
    assert chromium.value("document.body.innerText.includes('window.pwned=1')")  # it is shown as text


@needs_chromium
def test_the_same_words_unescaped_and_without_the_policy_do_run_and_do_ask(
    chromium: Browser, tmp_path: Path
) -> None:
    page = page_of(Written(HOSTILE).run, tmp_path)
    text = (
        page.read_text(encoding="utf-8")
        .replace("Content-Security-Policy", "x")
        .replace(shown(HOSTILE), HOSTILE)
    )
    page.write_text(text, encoding="utf-8")
    chromium.open(page)
    assert any("canary.invalid" in url for url in chromium.requests)
    assert chromium.dialogs == ["1"] * len(chromium.dialogs) != []


@needs_chromium
def test_the_policy_alone_holds_what_were_smuggled_past_the_escaping(
    chromium: Browser, tmp_path: Path
) -> None:
    page = page_of(Written(HOSTILE).run, tmp_path)
    hostile = HOSTILE.replace("<meta http-equiv=refresh content='0;url=http://canary.invalid/'>", "")
    text = page.read_text(encoding="utf-8").replace(shown(HOSTILE), hostile)
    page.write_text(text, encoding="utf-8")
    chromium.open(page)
    assert chromium.value("typeof window.pwned") == "undefined"
    assert chromium.dialogs == []
    assert chromium.requests == [page.as_uri()]
    assert any("canary.invalid" in url for url in chromium.blocked)


@needs_chromium
def test_the_page_is_used_by_keys_alone(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(page_of(Written().run, tmp_path))
    is_open = "document.getElementById('n0t1').open"
    assert not chromium.value(is_open)
    chromium.press("j")
    chromium.press("j")
    assert chromium.value("document.activeElement.parentElement.id") == "n0t1"
    chromium.press("Enter")
    assert chromium.value(is_open)
    chromium.press("c")
    assert chromium.value("document.querySelectorAll('#tree details[open]').length") == 0
    chromium.press("e")
    assert chromium.value("document.querySelectorAll('#tree details:not([open])').length") == 0
    before = chromium.value("getComputedStyle(document.body).backgroundColor")
    chromium.press("t")
    assert chromium.value("getComputedStyle(document.body).backgroundColor") != before


def test_the_page_has_the_tree_the_times_the_cost_and_the_quotes(tmp_path: Path) -> None:
    text = export_run(Written().run, "html").text
    assert "quoted word" in text
    assert "lib/a.py" in text
    assert "bytes 3 to 9" in text
    assert len(re.findall('<details class="node"', text)) == 2
    assert (
        text.index('id="n0t1"') < text.index('id="n1"') < text.index('id="n0t2"')
    )  # the child, in the cell that asked it
    assert len(re.findall('<rect class="model"', text)) == 3 + 1 + 2  # bars, the key, two shares of the cost
    assert "$0.00154" in text
    assert "exit nonzero" in text


def test_a_run_that_was_cut_off_anywhere_has_a_page_that_says_so() -> None:
    whole = export_run(Written().run, "jsonl").text.count('"kind": "event"')
    for upto in range(1, whole):
        text = export_run(Written(upto=upto).run, "html").text
        assert "This run has no end in the journal." in text
        assert text.rstrip().endswith("</html>")


def test_long_texts_are_cut_and_it_is_said() -> None:
    room = Room(most=MOST_TEXT + 1)
    assert room.cut("x" * (MOST_TEXT + 5)).endswith("… 5 more characters; the jsonl export has them")
    room.cut("yy")
    assert room.cut("z" * 1000).startswith("z" * 200 + "\n…")


def test_characters_that_hide_or_turn_the_writing_are_made_visible() -> None:
    assert shown("a\u202eb\x00\x1b[2J\udc80\tc\r\nd") == "a\\u202eb\\x00\\x1b[2J\\udc80\tc\nd"
    assert (
        shown("\u061cx\u206a\u00ad\ufff9\U000e0041\U0001f600")
        == "\\u061cx\\u206a\\xad\\ufff9\\U000e0041\U0001f600"
    )
