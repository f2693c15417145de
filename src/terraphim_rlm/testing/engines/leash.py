"""Runs a program that ends with whoever started it: `leash.py FD SCRIPT ARGUMENT..`, in a session of its own.

FD is the reading end of a pipe. When nobody holds the other end any more, however that came about, the program and all
that it has started are killed. Not PR_SET_PDEATHSIG: that fires at the end of the thread that started us, and spares
what we start. Standard library only: it runs in the environments of peers.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from types import TracebackType
from typing import Self


class Leash:
    """The end that whoever starts a program holds. Closing it ends the program; so does the end of this process."""

    def __init__(self) -> None:
        self.fd, self._held = os.pipe2(os.O_CLOEXEC)
        """For the program: in its arguments, and among the descriptors that it is passed."""

    def argv(self, python: str, *program: str) -> list[str]:
        """The command for `program`, a script and its arguments."""
        return [python, "-I", os.path.abspath(__file__), str(self.fd), *program]

    def close(self) -> None:
        """Idempotent."""
        for fd in {self.fd, self._held} - {-1}:
            os.close(fd)
        self.fd = self._held = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _watch(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    finally:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    held = int(sys.argv[1])
    threading.Thread(target=_watch, args=(held,), daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
