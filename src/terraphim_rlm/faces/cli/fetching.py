"""Fetches packages where the user sees it and may stop it, before the work that needs them."""

from __future__ import annotations

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.out import Voice
from terraphim_rlm.faces.cli.words import clean


def fetched(packages: tuple[str, ...], sandbox: str, voice: Voice) -> None:
    """Sees to it that they are here; says each step.

    Raises:
        Cancelled: it was stopped.
        RlmError: as `fetch_packages`.
    """
    if not packages:
        return
    from terraphim_rlm.service.packages import fetch_packages

    def step(line: str) -> None:
        voice.note(f"trlm: {clean(line)}")

    Work(lambda: fetch_packages(packages, sandbox, step), _stopped).run()


def _stopped() -> Cancelled:
    return Cancelled(
        "Stopped while packages were fetched; nothing else was begun.", fix="Give the command again."
    )
