"""From an allowed name to a connection: looked up once, every address checked, and a checked one dialled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address

from terraphim_rlm.sandbox.egress import addresses
from terraphim_rlm.sandbox.egress.names import Host, shown
from terraphim_rlm.sandbox.egress.peer import Peer
from terraphim_rlm.sandbox.egress.settings import Operator
from terraphim_rlm.sandbox.keeper.waiting import settle

_MOST_TRIED = 4
_SECONDS = 15.0
_EACH_SECONDS = 6.0
_LOOKUPS = 4
"""Of one sandbox at once. One that nobody waits for any more counts until its thread has ended: a name server that says
nothing keeps it for a minute."""
MOST_LOOKUPS = 64
"""Of all sandboxes of this process."""
MOST_NAMES = 256
"""Different ones that one sandbox may have looked up: below `*.example.org` each could carry something to whoever
answers for that name."""

_places = threading.BoundedSemaphore(MOST_LOOKUPS)

Address = IPv4Address | IPv6Address


class Refused(Exception):
    """It may not be reached; says why, as a sentence without its end."""


class Unreachable(Exception):
    """It may be reached, and could not be."""


class Dialler:
    """Dials for one sandbox."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._names: set[str] = set()

    @property
    def upstream(self) -> bool:
        """Whether all goes through a further proxy."""
        return self._operator.upstream is not None

    async def addresses(self, host: Host, port: int) -> list[Address]:
        """Where an allowed host is, each address fit to be dialled; none through a further proxy.

        Raises:
            Refused: an address is one that is never dialled. One is enough: a name with a public and a private address
                is one that means to be tried again.
            Unreachable: there is none.
        """
        excepted = (host, port) in self._operator.private
        if self.upstream and not excepted:
            if not isinstance(host, str):
                raise Refused(f"{shown(host)} is an address, and the proxy upstream takes names only")
            return []
        found = [host] if not isinstance(host, str) else await self._looked_up(host, absolute=not excepted)
        for address in found:
            what = "" if excepted else addresses.why_not(address)
            if not what and not excepted and addresses.is_own(address):
                what = "this machine itself"
            if what:
                raise Refused(
                    f"{shown(host)} is at {address}, which is never reached from a sandbox ({what})"
                )
        return found

    async def _looked_up(self, name: str, *, absolute: bool) -> list[Address]:
        """Absolute: as a whole name, never with the machine's own domain behind it."""
        if name not in self._names and len(self._names) >= MOST_NAMES:
            raise Refused(f"{name} is one name too many: a sandbox may look up {MOST_NAMES}")
        self._names.add(name)
        try:
            async with asyncio.timeout(_SECONDS):
                await self._lookups.acquire()
                answer = self._asked(f"{name}." if absolute else name)
                found = await asyncio.shield(answer)
        except TimeoutError:
            raise Unreachable(f"{name} could not be looked up in {_SECONDS:.0f} s") from None
        if isinstance(found, str):
            raise Unreachable(f"{name} could not be looked up: {found}")
        return [ip_address(text) for text in dict.fromkeys(found)]

    def _asked(self, name: str) -> asyncio.Future[list[str] | str]:
        """Has `name` looked up; gives back its place among those of this sandbox when the thread is done."""
        try:
            answer = _asked(name)
        except BaseException:
            self._lookups.release()
            raise
        answer.add_done_callback(lambda _: self._lookups.release())
        return answer

    async def connect(self, host: Host, port: int, found: list[Address], *, tunnel: bool) -> Peer:
        """A connection to one of `found`; with none, to the further proxy, and through it where `tunnel`.

        Raises:
            Unreachable: nothing answers there.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                if found:
                    return await _first([(str(each), port) for each in found])
                return await self._through(host, port, tunnel)
        except TimeoutError:
            raise Unreachable(f"{shown(host)} did not answer in {_SECONDS:.0f} s") from None

    async def _through(self, host: Host, port: int, tunnel: bool) -> Peer:
        assert self._operator.upstream is not None
        proxy, at = self._operator.upstream
        found = [proxy] if not isinstance(proxy, str) else await self._looked_up(proxy, absolute=False)
        peer = await _first([(str(each), at) for each in found])
        if tunnel:
            place = f"{shown(host)}:{port}".encode("ascii")
            try:
                await peer.send(b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n")
                answer = await peer.head()
            except (OSError, ValueError):
                answer = b""
            except BaseException:
                peer.close()
                raise
            words = answer.split(b" ", 2)
            if len(words) < 2 or words[1] != b"200":
                peer.close()
                raise Unreachable(f"the proxy upstream does not lead to {shown(host)}")
        return peer


def resolve(name: str) -> list[str]:
    """The addresses of a name, as this machine knows them. Waits for the network.

    Raises:
        OSError: there are none.
    """
    return [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def _asked(name: str) -> asyncio.Future[list[str] | str]:
    """Looks up in a thread of its own: those of the event loop are few, and a name server may say nothing for long."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str] | str] = loop.create_future()
    if not _places.acquire(blocking=False):
        raise Unreachable(f"{name} is not looked up: {MOST_LOOKUPS} others are, and are not answered")

    def work() -> None:
        try:
            found: list[str] | str = resolve(name)
        except (OSError, UnicodeError) as error:
            found = getattr(error, "strerror", None) or "it is no name"
        finally:
            _places.release()
        try:
            loop.call_soon_threadsafe(settle, answer, found)
        except RuntimeError:  # nobody waits any more: the loop is closed
            return

    try:
        threading.Thread(target=work, name="trlm-lookup", daemon=True).start()
    except RuntimeError:  # the system gives no further thread
        _places.release()
        raise Unreachable(f"{name} is not looked up: there is no room for another thread") from None
    return answer


async def _first(places: list[tuple[str, int]]) -> Peer:
    """The first of these that answers."""
    loop = asyncio.get_running_loop()
    why = "it has no address"
    for address, port in places[:_MOST_TRIED]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.ExitStack() as unmade:
            try:
                made = unmade.enter_context(socket.socket(family, socket.SOCK_STREAM))
                made.setblocking(False)
                async with asyncio.timeout(_EACH_SECONDS):
                    await loop.sock_connect(made, (address, port))
            except OSError as error:  # a TimeoutError is one, and so is a family that this machine lacks
                why = error.strerror or "it does not answer"
            else:
                unmade.pop_all()
                return Peer(made)
    raise Unreachable(f"no connection: {why}")
