"""Which addresses are never dialled for a sandbox, whatever name led to them.

The table is that of IANA's special-purpose registries, written out because `ipaddress` has changed its mind between
versions of Python (192.0.0.0/24, 64:ff9b:1::/48, 2002::/16); `is_global` is asked as well.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_NEVER: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this host"), ("10.0.0.0/8", "a private network"), ("100.64.0.0/10", "a provider's inside"),
    ("127.0.0.0/8", "this host itself"), ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
    ("172.16.0.0/12", "a private network"), ("192.0.0.0/24", "reserved"), ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "a relay to other addresses"), ("192.168.0.0/16", "a private network"),
    ("198.18.0.0/15", "a private network for benchmarks"), ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"), ("224.0.0.0/4", "multicast"), ("240.0.0.0/4", "reserved or broadcast"),
    ("168.63.129.16/32", "a cloud's own services"),
    ("::/96", "this host, or IPv4 in disguise"), ("::ffff:0:0/96", "IPv4 in disguise"),
    ("::ffff:0:0:0/96", "IPv4 in disguise"), ("64:ff9b::/96", "IPv4 in disguise"),
    ("64:ff9b:1::/48", "IPv4 in disguise"), ("100::/64", "nowhere"), ("2001::/23", "a relay, or reserved"),
    ("2001:db8::/32", "documentation"), ("2002::/16", "IPv4 in disguise"), ("3fff::/20", "documentation"),
    ("5f00::/16", "a provider's inside"), ("fc00::/7", "a private network"), ("fe80::/10", "link-local"),
    ("fec0::/10", "a private network"), ("ff00::/8", "multicast"),
)  # fmt: skip
_TABLE: tuple[tuple[_Network, str], ...] = tuple((ip_network(text), what) for text, what in _NEVER)


def why_not(address: Address) -> str:
    """What it is that may never be dialled; empty when it may.

    Embedded addresses (mapped, NAT64, 6to4, Teredo) are refused whatever is in them: on a network that reaches IPv4
    through NAT64 only, nothing is reached by IPv4-only names.
    """
    for network, what in _TABLE:
        if address.version == network.version and address in network:
            return what
    if isinstance(address, IPv6Address) and address.scope_id:
        return "link-local"
    if not address.is_global or address.is_multicast or address.is_reserved:
        return "no public address"
    return ""


def is_own(address: Address) -> bool:
    """Whether it is this machine's: what is dialled there would be answered here, past any wall at the door.

    Only such an address can be bound. No packet is sent. Where the kernel lets any address be bound, all are refused.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.bind((str(address), 0))
    except OSError:
        return False
    return True
