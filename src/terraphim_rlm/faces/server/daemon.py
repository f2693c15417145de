"""The process that keeps a user's sessions: one of its data folder, reached over its socket by its own user."""

from __future__ import annotations

import asyncio
import resource
import signal
from contextlib import suppress

from terraphim_rlm.faces.server.listening import Listening
from terraphim_rlm.store.journal import Journal


def serve(listening: Listening, idle_seconds: float) -> None:
    """Serves until a signal, a request to stop, or `idle_seconds` (0 = never) without sessions and requests.

    Every sandbox is gone and every record written when it returns.

    Raises:
        StoreError: the journal cannot be used.
    """
    raise_descriptor_limit()
    with listening, Journal() as journal:
        journal.open()
        asyncio.run(_serve(listening, journal, idle_seconds))


def raise_descriptor_limit() -> None:
    """Lets this process, and the keeper that it starts, have as many descriptors as it may have at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(listening: Listening, journal: Journal, idle_seconds: float) -> None:
    from terraphim_rlm.faces.server.app import make_app
    from terraphim_rlm.faces.server.bounds import Bounded, Bounds
    from terraphim_rlm.faces.server.idle import Idle
    from terraphim_rlm.faces.server.uvicorn_server import make_server
    from terraphim_rlm.service.sessions import Sessions

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, ending.set)
    async with Sessions(journal) as sessions:
        idle = Idle(idle_seconds, lambda: sessions.statistics().live > 0, ending.set)
        idle.watch()
        app = Bounded(make_app(sessions, ending.set), idle, Bounds())
        server = make_server(app, ending)
        serving = asyncio.ensure_future(server.serve(sockets=[listening.socket]))
        stopping = asyncio.ensure_future(ending.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        listening.hide()  # whoever comes from now on starts another daemon
        idle.close()
        ending.set()
        await sessions.close()  # what is in flight now gets its answer
        await serving
