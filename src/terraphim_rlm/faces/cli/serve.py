"""`trlm serve`: the daemon that keeps sessions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from terraphim_rlm.core.errors import Cancelled, InvalidArgument
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, speaking
from terraphim_rlm.faces.cli.words import plural

IDLE_SECONDS = 300.0
DRAIN_SECONDS = 10.0


def serve(
    idle_seconds: Annotated[
        float, typer.Option(metavar="S", help="End after so long without sessions and requests; 0 = never.")
    ] = IDLE_SECONDS,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; log to daemon.log.")
    ] = False,
    drain_seconds: Annotated[
        float, typer.Option(metavar="S", help="Upon SIGTERM, let what runs end by itself for so long.")
    ] = DRAIN_SECONDS,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a systemd unit that runs this, and do nothing else.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs, and its sessions.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Keeps sessions, and serves them to this user over a Unix socket. Started by itself where it is needed.

    Ctrl-C ends it and every session; SIGTERM first lets what runs end. Only one can serve a data folder.
    """
    with speaking("serve", mode(as_json), debug) as voice:
        if not 0 <= idle_seconds <= 31_536_000:
            raise InvalidArgument(f"--idle-seconds must be 0 or more, not {idle_seconds:g}.")
        if not 0 <= drain_seconds <= 3600:
            raise InvalidArgument(f"--drain-seconds must be 0 to 3,600, not {drain_seconds:g}.")
        if print_unit:
            _print_unit(voice, drain_seconds)
            return
        if stop:
            _stop(voice)
            return
        _serve(voice, idle_seconds, drain_seconds, detach)


def _serve(voice: Voice, idle_seconds: float, drain_seconds: float, detach: bool) -> None:
    from terraphim_rlm.core.paths import data_dir
    from terraphim_rlm.core.process import detach as detached
    from terraphim_rlm.faces.server.daemon import Serving
    from terraphim_rlm.faces.server.daemon import serve as served
    from terraphim_rlm.faces.server.listening import Listening, log_file
    from terraphim_rlm.store.journal import Journal

    listening = Listening()
    with Journal() as journal:  # its faults are known before anybody is told that it serves
        journal.open()
    told = {"pid": os.getpid(), "socket": str(listening.path)}
    if detach:
        os.environ["TRLM_DATA"] = str(data_dir().absolute())  # the child leaves this folder
        log = log_file()
        if pid := detached(log):
            listening.leave()
            voice.give({**told, "pid": pid}, f"Serving on {listening.path}, process {pid}.")
            return
        os.close(log)
        listening.describe()
    else:
        voice.note(f"Serving on {listening.path}, process {os.getpid()}. Ctrl-C ends it and its sessions.")
    served(listening, Serving(idle_seconds, drain_seconds))
    if not detach:
        voice.give(told, "Ended.")


def _print_unit(voice: Voice, drain_seconds: float) -> None:
    from terraphim_rlm.core.paths import data_dir
    from terraphim_rlm.faces.server.unit import unit

    text = unit(Path(sys.executable), data_dir().absolute(), drain_seconds)
    voice.give({"unit": text}, text.rstrip())


def _stop(voice: Voice) -> None:
    from terraphim_rlm.faces.client.daemon import stop

    stopped = Work(stop, lambda: Cancelled("Left before the daemon had ended.")).run()
    text = "No daemon runs." if stopped is None else f"Ended, with {plural(stopped, 'session')}."
    voice.give({"stopped": stopped is not None, "sessions": stopped or 0}, text)
