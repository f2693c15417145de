"""The gateway of one sandbox: answers, on the host, the sockets that listen inside it.

Inside it has one address. Programs reach it as a proxy (CONNECT, and plain requests), as a name server, or without
knowing of it: allowed names have its address, and TLS to its ports says by itself for which name it is.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Sequence

from terraphim_rlm.core.network import Access, NetworkStatistics
from terraphim_rlm.sandbox.egress import dns
from terraphim_rlm.sandbox.egress.dial import Dialler
from terraphim_rlm.sandbox.egress.inside import ADDRESS, NAMES_PORT, PROXY_PORT
from terraphim_rlm.sandbox.egress.names import Odd, canonical
from terraphim_rlm.sandbox.egress.peer import Peer
from terraphim_rlm.sandbox.egress.rate import Rate
from terraphim_rlm.sandbox.egress.records import Records, Tell, escaped
from terraphim_rlm.sandbox.egress.rules import Allowlist
from terraphim_rlm.sandbox.egress.settings import Operator
from terraphim_rlm.sandbox.egress.visit import Visit, Way

MOST_OPEN = 32
"""Connections of one sandbox at once; more wait. Where all sandboxes together come near what the process may have, one may
have no more than are still free then, so that some are left for whoever comes next."""
_PER_SECOND, _BURST = 50.0, 200.0
"""Connections, and questions for names, that are looked at."""
_BLOCKS_PER_SECOND, _MOST_BLOCKS = 2_000.0, 2_000.0
"""That are carried for one sandbox, both ways together. Whole ones make 125 MB a second."""
_AFTER_FAILURE_SECONDS = 0.2
_MOST_NAME = 253
"""Characters that are told of a name that was asked for: of what is no name of a host, its beginning."""
_SHARE = 8
"""One of so many of this process's descriptors may be a connection's; each has two."""

_open = 0  # connections of all sandboxes of this process


def doors(allowed: Allowlist) -> list[tuple[str, str, int]]:
    """What has to listen inside, see `GuestLink.doors`: the proxy, the name server, each allowed port."""
    ports = [port for port in allowed.ports if port not in (PROXY_PORT, NAMES_PORT)]
    return [
        ("tcp", ADDRESS, PROXY_PORT),
        ("udp", ADDRESS, NAMES_PORT),
        *(("tcp", ADDRESS, port) for port in ports),
    ]


class Gateway:
    """Serves until it is closed. One event loop.

    Args:
        sockets: those of `doors`, in that order; closed here.
        quota: bytes that may be carried, both ways together.
        receiver: asked at the beginning of each connection who is to be told of it.
    """

    def __init__(
        self,
        allowed: Allowlist,
        sockets: Sequence[socket.socket],
        operator: Operator,
        quota: int,
        receiver: Callable[[], Tell],
    ) -> None:
        self._sockets = list(sockets)
        self._receiver = receiver
        self.records = Records(quota)
        self._way = Way(allowed, Dialler(operator), self.records, Rate(_BLOCKS_PER_SECOND, _MOST_BLOCKS))
        self._slots = asyncio.Semaphore(MOST_OPEN)
        self._rate = Rate(_PER_SECOND, _BURST)
        proxy, names, *others = self._sockets
        ports = [port for _kind, _address, port in doors(allowed)[2:]]
        serving = [self._accept(proxy, None), self._answer_names(names)]
        serving += [self._accept(sock, port) for sock, port in zip(others, ports, strict=True)]
        self._tasks = {asyncio.ensure_future(each) for each in serving}

    async def _accept(self, listener: socket.socket, door: int | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._rate.wait()
            try:
                inner, _address = await loop.sock_accept(listener)
            except OSError:  # no descriptor is free, or the one that came has left
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)
                continue
            peer = Peer(inner)
            try:
                await self._slots.acquire()
            except BaseException:
                peer.close()
                raise
            self._begin(peer, door)

    def _begin(self, peer: Peer, door: int | None) -> None:
        global _open  # noqa: PLW0603 - descriptors are the process's
        _open += 1
        self.records.open += 1
        task = asyncio.ensure_future(self._serve(peer, door))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._served(done, peer))

    def _served(self, task: asyncio.Task[None], peer: Peer) -> None:
        global _open  # noqa: PLW0603
        _open -= 1
        peer.close()
        self._tasks.discard(task)
        self.records.open -= 1
        self._slots.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours ends one connection, is told, and nothing else
            reason = escaped(f"a defect of the gateway ended it: {type(error).__name__}: {error}")
            self.records.tell(Access("refused", "?", 0, "http", reason), self._receiver())

    async def _serve(self, peer: Peer, door: int | None) -> None:
        visit = Visit(self._way, peer, door, self._receiver())
        most = max(MOST_OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE // 2)
        if self.records.open > most - _open + 1:
            await visit.refuse("too many connections of all sandboxes are open")
        else:
            await visit.run()

    async def _answer_names(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        rate = Rate(_PER_SECOND, _BURST)
        while True:
            await rate.wait()
            try:
                data, sender = await loop.sock_recvfrom(listener, dns.MOST + 1)
                if reply := self._name(data):
                    await loop.sock_sendto(listener, reply, sender)
            except OSError:
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)

    def _name(self, data: bytes) -> bytes:
        """The answer to a query; none to what is no query."""
        asked = dns.question(data)
        if asked is None:
            return b""
        name, reason = escaped(asked.name, _MOST_NAME), ""
        try:
            if not self._way.allowed.knows(canonical(asked.name)):
                reason = f"{name} is not allowed; allow it with network=['{name}']"
        except Odd as error:
            reason = f"{name} is not allowed: {error}"
        if not reason and not asked.wants_address:
            reason = f"{name} has addresses only, no record of type {asked.kind}"
        if not reason:
            return dns.here(asked, socket.inet_aton(ADDRESS))
        self.records.tell(Access("refused", name, NAMES_PORT, "name", reason), self._receiver())
        return dns.nowhere(asked)

    @property
    def refused(self) -> int:
        """Refusals so far."""
        return self.records.refused

    def notes(self, since: int) -> list[str]:
        """See `Records.notes`."""
        return self.records.notes(since)

    def statistics(self) -> NetworkStatistics:
        return self.records.statistics()

    async def close(self) -> None:
        """Ends every connection; returns when none is left. Idempotent."""
        tasks, self._tasks = set(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()
        if sockets:
            self.records.end(self._receiver())
