"""`trlm doctor`: what works on this machine, shown by doing it, and the fix for what does not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from terraphim_rlm.core.errors import (
    BackendUnavailable,
    Cancelled,
    JournalCorrupt,
    JournalUnavailable,
    ModelUnreachable,
    RlmError,
)
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.words import one_line

if TYPE_CHECKING:
    from terraphim_rlm.core.values import Check

_COLOURS = {"ok": 32, "warn": 33, "fail": 31}
_ERRORS: dict[str, type[RlmError]] = {
    "store": JournalUnavailable,
    "journal": JournalCorrupt,
    "model": ModelUnreachable,
}


def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Checks this installation, by really using it.

    Starts a sandbox and runs code in it, reads the whole journal, looks for models and keys. Asks no model
    anything.
    """
    with speaking("doctor", mode(as_json), debug) as voice:
        from terraphim_rlm.service import doctor as service

        def on_check(check: Check) -> None:
            if not voice.quiet:
                voice.say(_line(check))

        found = Work(lambda: service.examine(on_check), _stopped).run()
        errors = [_error(check) for check in found if check.status == "fail"]
        if voice.quiet:
            voice.give(service.checks_to_json(found), "", errors=[each.to_json() for each in errors])
        if errors:
            raise typer.Exit(errors[0].row.exit_code)


def _stopped() -> Cancelled:
    return Cancelled("Stopped before all was looked at.")


def _error(check: Check) -> RlmError:
    kind = _ERRORS.get(check.id, BackendUnavailable)
    return kind(f"{check.id}: {check.evidence}", fix=check.fix, check=check.id)


def _line(check: Check) -> str:
    word = f"{check.status:<4}"
    if sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        word = f"\x1b[{_COLOURS[check.status]}m{word}\x1b[0m"
    fix = f"\n      fix: {one_line(check.fix, 2000)}" if check.fix else ""
    return f"{word}  {check.id:<20} {one_line(check.evidence, 2000)}{fix}"
