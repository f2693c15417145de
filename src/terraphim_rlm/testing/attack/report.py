"""The report page of an attack: `trlm attack --jsonl | python -m .. COMMIT DATE > PAGE`."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from terraphim_rlm.testing.attack.catalogue import cases
from terraphim_rlm.testing.attack.protections import PROTECTIONS

_HEAD = """\
# Attacks on the {backend} sandbox

Generated from the output of `trlm attack --backend {backend} --tier {tier} --jsonl` by
`python -m terraphim_rlm.testing.attack.report`; not written by hand. Commit {commit}, {date}.
Linux {kernel}, {machine}, {cpus} CPUs, user id {uid}; {minutes:.1f} minutes, each row {repeats} times from seed {seed} on.

Of {cases} cases {passed} passed, {failed} failed and {not_run} did not run. {proven} controls did their harm. Hung: {hung}.
P1 rows passed {rate}.

A row is hostile code in an ordinary sandbox with small limits (256 MB, 64 processes, 64 MB of files, 5 s). It passes
when it did no harm, ended as it should, and left the host as it was: one status in time (I2), no process (I3), no
trace such as a control group, mount, socket or file (I4), canaries untouched and unseen (I5), no memory or descriptors
of the host's (I6), no disk (I7), a neighbour never silent for 2 s (I9), and settings, keys and clock as before (I11).
Where it uses the daemon of sessions, that is well (I1) and has one record of each execution, also after it was killed
(I8); where it names an address, it runs in a network in which every address is a sink that stays dry (I10); where it
has a model, the budget holds (I12). A control is the very same code in a throwaway host, with one protection off: it
must do the harm, or the row proves nothing and counts as failed.

| row | severity | what it tries | result | its control: without .. | what it then did |
|---|---|---|---|---|---|
"""


def page(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, commit: str, date: str) -> str:
    """The report as Markdown.

    Args:
        told: what `tiers.attack` returned.
        rows: what it emitted, in order.
        commit, date: of the code that was attacked; the caller knows.
    """
    rate = told["p1_rate"]
    head = _HEAD.format(
        **{name: told[name] for name in ("backend", "tier", "passed", "cases", "repeats", "seed")},
        commit=commit,
        date=date,
        kernel=platform.release(),
        machine=platform.machine(),
        cpus=os.cpu_count(),
        uid=os.geteuid(),
        minutes=told["seconds"] / 60,
        failed=len(told["failed"]),
        not_run=sum(key in cases() for key in told["not_run"]),
        proven=told["controls_proven"],
        hung=", ".join(told["hung"]) or "none",
        rate="never: none ran" if rate is None else f"{rate:.2%} of the time",
    )
    return head + "".join(map(_line, rows)) + _unproven(told)


def _line(row: Mapping[str, Any]) -> str:
    off = "; ".join(PROTECTIONS[name].what for name in row["off"])
    if len(row["off"]) > 1:
        off = f"all of (each alone holds): {off}"
    result = row["verdict"].replace("_", " ") + (f": {row['why']}" if row["why"] else "")
    did = row["control_why"] if row["control"] != "not_run" or row["severity"] == "P0" else ""
    cells = (row["id"], row["severity"], row["name"], result, off, did)
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |\n"


def _cell(text: str) -> str:
    """One short cell; a canary's value and the laboratory's place differ each time and say nothing."""
    words = " ".join(text.split())
    first = words.split("; ", 1)[0] if len(words) > 160 else words
    kept = " ".join(
        "(canary)" if "trlm-attack-" in word or "canary-" in word else word for word in first.split()
    )
    return (kept[:159] + "…" if len(kept) > 160 else kept).replace("|", "\\|").replace("<", "&lt;")


def _unproven(told: Mapping[str, Any]) -> str:
    if not told["not_run"]:
        return ""
    lines = [f"- {key}{_about(key)}: {why}" for key, why in told["not_run"].items()]
    return "\n## Not run, and not counted as passed or proven\n\n" + "\n".join(lines) + "\n"


def _about(key: str) -> str:
    case = cases().get(key)
    return f" ({case.severity}, {case.what})" if case else ""


def main(arguments: Sequence[str]) -> int:
    """Reads the lines of `trlm attack --jsonl` and prints the page."""
    commit, date = arguments
    *rows, told = [json.loads(line) for line in sys.stdin]
    sys.stdout.write(page(told, rows, commit=commit, date=date))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
