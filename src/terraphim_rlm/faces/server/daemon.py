"""The process that keeps a user's sessions: one of its data folder, reached over its socket by its own user."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from terraphim_rlm.faces.server.listening import Listening
from terraphim_rlm.store.journal import Journal

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from terraphim_rlm.faces.server.admission import Tcp
    from terraphim_rlm.service.running import Running
    from terraphim_rlm.service.sessions import Sessions
    from terraphim_rlm.supervision.spec import Exit, Start


@dataclass(frozen=True, slots=True)
class Serving:
    """How a daemon serves, and ends."""

    idle_seconds: float = 0.0
    """Without sessions and requests, upon which it ends; 0 = never."""
    drain_seconds: float = 10.0
    """That what is in flight has to end by itself after SIGTERM."""
    tcp: Tcp | None = None
    """Who is let in over TCP; None = nobody."""


def serve(listening: Listening, how: Serving) -> None:
    """Serves until a signal, a request to stop, or a time without sessions and requests.

    Every sandbox is gone and every record written when it returns.

    Raises:
        StoreError: the journal cannot be used.
        CrashLoop: parts of it crashed too often.
    """
    raise_descriptor_limit()
    with listening, Journal() as journal:
        journal.open()
        asyncio.run(_serve(listening, journal, how))


def raise_descriptor_limit() -> None:
    """Lets this process, and the keeper that it starts, have as many descriptors as it may have at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(listening: Listening, journal: Journal, how: Serving) -> None:
    from terraphim_rlm.faces.server.app import make_app
    from terraphim_rlm.faces.server.bounds import Bounded, Bounds
    from terraphim_rlm.faces.server.idle import Idle
    from terraphim_rlm.faces.server.tree import make_tree
    from terraphim_rlm.service.running import Running
    from terraphim_rlm.service.sessions import Sessions
    from terraphim_rlm.supervision.watchdog import Watchdog

    ending, draining = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, ending.set)

    def asked() -> None:
        (ending if draining.is_set() else draining).set()  # whoever asks twice is in a hurry

    loop.add_signal_handler(signal.SIGTERM, asked)
    sessions, work = Sessions(journal), Running()
    idle = Idle(how.idle_seconds, lambda: sessions.statistics().live + work.statistics().live > 0, ending.set)
    app = make_app(sessions, work, ending.set)
    tree = make_tree(journal, sessions, _servers(Bounded(app, idle, Bounds()), listening, how))
    app.state.tree = tree
    with Watchdog():
        try:
            await tree.start()
            idle.watch()
            notify("READY=1")
            await _first(ending, draining, tree.ended)
            notify("STOPPING=1")
            listening.hide()  # whoever comes from now on starts another daemon
            idle.close()
            if draining.is_set():
                await _drained(sessions, work, ending, how.drain_seconds)
        finally:
            await work.close()
            await sessions.close()  # what is in flight now gets its answer
            await tree.stop()
    tree.check()


def _servers(app: ASGIApp, listening: Listening, how: Serving) -> dict[str, Start]:
    from terraphim_rlm.faces.server.admission import Admission
    from terraphim_rlm.faces.server.uvicorn_server import served
    from terraphim_rlm.service.keys import Keys

    servers = {"server": served(app, listening.socket)}
    if how.tcp is not None and listening.tcp is not None:
        servers["tcp"] = served(Admission(app, how.tcp, Keys()), listening.tcp)
    return servers


async def _drained(sessions: Sessions, work: Running, ending: asyncio.Event, seconds: float) -> None:
    """Returns when nothing is in flight any more, the time is over, or somebody is in a hurry."""
    sessions.refuse()
    work.refuse()
    idle = asyncio.ensure_future(_idle(sessions, work))
    hurry = asyncio.ensure_future(ending.wait())
    waits: list[asyncio.Future[Any]] = [idle, hurry]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


async def _idle(sessions: Sessions, work: Running) -> None:
    await sessions.idle()
    await work.idle()


async def _first(ending: asyncio.Event, draining: asyncio.Event, over: asyncio.Future[Exit]) -> None:
    asked = [asyncio.ensure_future(event.wait()) for event in (ending, draining)]
    waits: list[asyncio.Future[Any]] = [*asked, over]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in asked:
        each.cancel()


def notify(state: str) -> None:
    """Tells systemd, where it started us (`Type=notify`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
