"""The daemon of sessions without some protections: `python -m .. FOLDER PROTECTION..`. For controls, in a bottle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from terraphim_rlm.faces.server.daemon import Serving, serve
from terraphim_rlm.faces.server.listening import Listening
from terraphim_rlm.testing.attack.protections import PROTECTIONS
from terraphim_rlm.testing.attack.weak import without


@dataclass(frozen=True, slots=True)
class Folder:
    """A laboratory that another process made."""

    root: Path

    @property
    def canary(self) -> Path:
        return self.root / "canary" / "file"

    @property
    def shared(self) -> Path:
        return self.root / "shared"


def main(arguments: Sequence[str]) -> int:
    folder, *names = arguments
    with without([PROTECTIONS[name] for name in names], Folder(Path(folder))):
        listening = Listening()
        sys.stderr.write(f"Serving on {listening.path}, process of a control\n")
        sys.stderr.flush()
        serve(listening, Serving())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
