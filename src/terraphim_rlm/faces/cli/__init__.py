"""The command line, `trlm`. Starting it imports no more than the command at hand needs."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """What the installed commands `trlm` and `terraphim-rlm` call."""
    _hold_standard_descriptors()
    from terraphim_rlm.faces.cli.app import run

    sys.exit(run(sys.argv[1:]))


def _hold_standard_descriptors() -> None:
    """Fills the places 0 to 2 that the caller left closed.

    Else the first file that is opened, the journal perhaps, would become somebody's standard output. The
    filling is opened for reading only, so that writing to a closed output still fails and is noticed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
