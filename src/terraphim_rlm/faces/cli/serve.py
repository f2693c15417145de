"""`trlm serve`: the daemon that keeps sessions and answers over HTTP."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled, InvalidArgument, KeyRefused
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, speaking
from terraphim_rlm.faces.cli.words import plural

if TYPE_CHECKING:
    from terraphim_rlm.faces.server.admission import Tcp
    from terraphim_rlm.faces.server.daemon import Serving

IDLE_SECONDS = 300.0
DRAIN_SECONDS = 10.0
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


def serve(  # noqa: PLR0913, PLR0917 - each is an option
    idle_seconds: Annotated[
        float, typer.Option(metavar="S", help="End after so long without sessions and requests; 0 = never.")
    ] = IDLE_SECONDS,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; log to daemon.log.")
    ] = False,
    drain_seconds: Annotated[
        float, typer.Option(metavar="S", help="Upon SIGTERM, let what runs end by itself for so long.")
    ] = DRAIN_SECONDS,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Serve on this port of 127.0.0.1 too, for whoever has a key; 0 = a free one."
        ),
    ] = None,
    open_loopback: Annotated[
        bool,
        typer.Option(
            "--open-loopback", help="Let every program of this machine in by the port, without a key."
        ),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Let pages of this origin call, with a key. May be repeated."),
    ] = None,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a systemd unit that runs this, and do nothing else.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs, and its sessions.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Keeps sessions and works on runs, for this user over a Unix socket, and with --port for whoever has a key.

    It is started by itself where it is needed. Ctrl-C ends it and every session; SIGTERM first lets what runs end. Only one can serve a data folder.
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
        from terraphim_rlm.faces.server.daemon import Serving

        wanted = _tcp(port, open_loopback, tuple(cors_origin or ()))
        _serve(voice, Serving(idle_seconds, drain_seconds, wanted), detach)


def _tcp(port: int | None, is_open: bool, origins: tuple[str, ...]) -> Tcp | None:
    """Who is let in over TCP, if anybody.

    Raises:
        InvalidArgument: the options do not go together.
        KeyRefused: nobody could get in.
    """
    from terraphim_rlm.faces.server.admission import Tcp
    from terraphim_rlm.service.keys import Keys

    if port is None:
        if is_open or origins:
            raise InvalidArgument(
                "--open-loopback and --cors-origin are about --port.", fix="Give a port, too."
            )
        return None
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"--port must be 0 to 65,535, not {port}.")
    if is_open and origins:
        raise InvalidArgument(
            "Without keys no page is let in.", fix="Leave out --open-loopback or --cors-origin."
        )
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidArgument(
                f"{origin[:80]!r} is no origin.", fix="Name one such as https://app.example.org."
            )
    if not is_open and not Keys().all():
        raise KeyRefused(
            "There is no key yet, so nobody could get in over TCP.",
            fix="Make one, `trlm keys create NAME`, or serve with --open-loopback.",
        )
    return Tcp(port, origins, needs_key=not is_open)


def _serve(voice: Voice, how: Serving, detach: bool) -> None:
    from terraphim_rlm.core.paths import data_dir
    from terraphim_rlm.core.process import detach as detached
    from terraphim_rlm.faces.server.daemon import serve as served
    from terraphim_rlm.faces.server.listening import Listening, log_file
    from terraphim_rlm.store.journal import Journal

    listening = Listening()
    with Journal() as journal:  # its faults are known before anybody is told that it serves
        journal.open()
    told: dict[str, Any] = {"pid": os.getpid(), "socket": str(listening.path)}
    where = str(listening.path)
    if how.tcp is not None:
        try:
            how = replace(how, tcp=replace(how.tcp, port=listening.open_tcp(how.tcp.port)))
        except BaseException:
            listening.close()
            raise
        assert how.tcp is not None
        told["url"] = f"http://127.0.0.1:{how.tcp.port}"
        where = f"{where} and {told['url']}"
    if detach:
        os.environ["TRLM_DATA"] = str(data_dir().absolute())  # the child leaves this folder
        log = log_file()
        if pid := detached(log):
            listening.leave()
            voice.give({**told, "pid": pid}, f"Serving on {where}, process {pid}.")
            return
        os.close(log)
        listening.describe()
    else:
        voice.note(f"Serving on {where}, process {os.getpid()}. Ctrl-C ends it and its sessions.")
    served(listening, how)
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
