"""Protections of the network, each a name of the host's code that a control replaces by the mistake it guards against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from terraphim_rlm.sandbox.egress import addresses, dial, dns, gateway, heads, names, opening, rules, visit
from terraphim_rlm.testing.attack.weak import Place


@contextlib.contextmanager
def _replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _value in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def any_address(_place: Place) -> contextlib.AbstractContextManager[None]:
    """Whatever a name leads to is dialled."""
    return _replaced(
        (addresses, "why_not", lambda _address: ""), (addresses, "is_own", lambda _address: False)
    )


def no_gateway(_place: Place) -> contextlib.AbstractContextManager[None]:
    """Nothing listens inside: for controls whose sandbox has the network of its host."""

    async def opened(*_arguments: object) -> None:
        await asyncio.sleep(0)

    return _replaced((opening, "opened", opened))


def any_name(_place: Place) -> contextlib.AbstractContextManager[None]:
    """Whatever is asked for is allowed."""
    return _replaced((rules.Allowlist, "why_not", lambda _self, _host, _port: ""))


def names_looked_up(_place: Place) -> contextlib.AbstractContextManager[None]:
    """Questions for names are handed on to the world's name servers."""
    answer = gateway.Gateway._name

    def name(self: gateway.Gateway, data: bytes) -> bytes:
        asked = dns.question(data)
        if asked is not None:
            dial._asked(asked.name)
        return answer(self, data)

    return _replaced((gateway.Gateway, "_name", name))


def loose_match(_place: Place) -> contextlib.AbstractContextManager[None]:
    """A name is allowed when an allowed one stands anywhere in it."""

    def admits(self: rules.Rule, host: names.Host, _port: int) -> bool:
        return str(self.host) in str(host)

    return _replaced((rules.Rule, "admits", admits))


def two_parsers(_place: Place) -> contextlib.AbstractContextManager[None]:
    """A name is allowed by its end, and dialled by its beginning: what a library in C makes of it."""

    def authority(text: str, default: int | None) -> tuple[names.Host, int]:
        host, _, port = text.rpartition(":")
        return (host, int(port)) if port.isdigit() and host else (text, default or 80)

    def admits(self: rules.Rule, host: names.Host, _port: int) -> bool:
        return str(host).endswith(str(self.host)) or str(host).startswith(str(self.host))

    async def looked_up(_self: dial.Dialler, name: str, *, absolute: bool) -> list[dial.Address]:
        await asyncio.sleep(0)
        cut = name.rpartition("@")[2]
        for end in "\0#?/\\% ":
            cut = cut.partition(end)[0]
        try:
            return [ip_address(cut)]
        except ValueError:
            raise dial.Unreachable("no address") from None

    return _replaced(
        (heads, "authority", authority),
        (visit, "shown", str),
        (rules.Rule, "admits", admits),
        (dial.Dialler, "_looked_up", looked_up),
    )
