"""Ends a process whose event loop stands still: nothing inside of that loop could."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from types import TracebackType
from typing import Self, TextIO

LIMIT_SECONDS = 30.0


class Watchdog:
    """While it is entered, the loop must come by once in `limit` seconds; else the process ends with status 1.

    It first writes every thread's traceback to `file`. The one who watches is a thread of C, which needs no GIL: code
    that blocks inside of an extension is found as well. Whoever started the process starts it again (systemd does).
    """

    def __init__(self, limit: float = LIMIT_SECONDS, file: TextIO | None = None) -> None:
        self._limit = limit
        self._file = file if file is not None else sys.stderr
        self._timer: asyncio.TimerHandle | None = None

    def _pass(self) -> None:
        faulthandler.dump_traceback_later(self._limit, exit=True, file=self._file)
        self._timer = asyncio.get_running_loop().call_later(self._limit / 4, self._pass)

    def __enter__(self) -> Self:
        self._pass()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()
