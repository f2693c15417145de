"""Names of hosts, in the one form in which they are compared, resolved and dialled. Whatever is odd is refused."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

Host = str | IPv4Address | IPv6Address
"""A name of lower-case ASCII labels without a dot at its end, or an address."""

_MOST = 253
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Odd(ValueError):
    """What came is no host, or none that is understood in one way only; says why in a few words."""


def canonical(text: str) -> Host:
    """The host that `text` names; the same for all spellings of one.

    Addresses are taken in their one usual form only: what some programs read as an address besides (`2130706433`,
    `0x7f.1`, `127.1`, `0177.0.0.1`) is refused, so that no two parsers can take it for different hosts.

    Raises:
        Odd: it is none.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Odd("it has characters that no host name has")
    if text.startswith("["):
        return _bracketed(text)
    name = text.lower().removesuffix(".")
    if len(name) > _MOST:
        raise Odd("it is too long")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(name)
        except ValueError:
            raise Odd("it is an odd spelling of an address") from None
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise Odd("it is no host name")
    return name


def _bracketed(text: str) -> IPv6Address:
    if not text.endswith("]") or "%" in text:
        raise Odd("it is no address")
    try:
        return IPv6Address(text[1:-1])
    except ValueError:
        raise Odd("it is no address") from None


def port_of(text: str) -> int:
    """1 to 65,535, in its one usual form.

    Raises:
        Odd: it is none.
    """
    if not _PORT.fullmatch(text) or int(text) > 65_535:
        raise Odd("its port is none")
    return int(text)


def authority(text: str, default: int | None) -> tuple[Host, int]:
    """`HOST[:PORT]`, as in requests; a user's name in front of the host is refused with all else that is odd.

    Args:
        default: the port where none is named; None = one must be.

    Raises:
        Odd: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        if default is None:
            raise Odd("it names no port")
        return canonical(text), default
    return canonical(host), port_of(port)


def shown(host: Host) -> str:
    """As it stands in requests."""
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)
