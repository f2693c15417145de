"""What a sandbox may reach: `Resources.network`, read strictly.

Each entry is `NAME[:PORT]`: an exact name (`python.org`), all names below one (`*.example.org`: one label or more in
front, not `example.org` itself), or an address (`192.0.2.7`, `[2001:db8::7]`). Without a port, 443 and 80 are meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.sandbox.egress.names import Host, Odd, authority, canonical, shown

PORTS = (443, 80)
"""Of an entry that names none."""
MOST_RULES = 100
MOST_PORTS = 16
"""Different ones, together."""
_MOST_TEXT = 300
_FIX = (
    "Give names such as python.org, *.example.org or example.org:8443, without https:// and without a path."
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry."""

    host: Host
    ports: tuple[int, ...]
    below: bool = False
    """Names below `host` are meant, not `host` itself."""

    def admits(self, host: Host, port: int) -> bool:
        if port not in self.ports:
            return False
        if self.below:
            return isinstance(host, str) and host.endswith(f".{self.host}")
        return host == self.host


class Allowlist:
    """All entries of one sandbox."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    @property
    def ports(self) -> tuple[int, ...]:
        """All that any entry names, in order."""
        return tuple(sorted({port for rule in self._rules for port in rule.ports}))

    def admits(self, host: Host, port: int) -> bool:
        return any(rule.admits(host, port) for rule in self._rules)

    def knows(self, host: Host) -> bool:
        """Whether it may be reached at any port."""
        return any(self.admits(host, port) for port in self.ports)

    def why_not(self, host: Host, port: int) -> str:
        """Why it may not be reached; empty when it may, as far as names go."""
        if self.admits(host, port):
            return ""
        if self.knows(host):
            return f"port {port} of {shown(host)} is not allowed; allow it with network=[{f'{shown(host)}:{port}'!r}]"
        entry = shown(host) if port in PORTS else f"{shown(host)}:{port}"
        return f"{shown(host)} is not allowed; allow it with network=[{entry!r}]"


def allowlist(entries: Iterable[str]) -> Allowlist:
    """`Resources.network`, checked.

    Raises:
        InvalidArgument: an entry is none, or there are too many; the fix is named.
    """
    if isinstance(entries, str):
        raise InvalidArgument(
            f"network is a list of names, not the text {entries[:80]!r}.",
            fix=f"Write network=[{entries[:80]!r}].",
        )
    rules = [_rule(each) for each in entries]
    made = Allowlist(rules)
    if len(rules) > MOST_RULES or len(made.ports) > MOST_PORTS:
        raise InvalidArgument(
            f"network may hold {MOST_RULES} names with {MOST_PORTS} different ports, not {len(rules)} with"
            f" {len(made.ports)}.",
            fix="Allow what the code needs, and name a common parent: *.example.org.",
        )
    return made


def _rule(entry: object) -> Rule:
    if not isinstance(entry, str) or not 0 < len(entry) <= _MOST_TEXT:
        raise InvalidArgument(
            f"network holds {str(entry)[:80]!r}, which is no name.", fix=_FIX, name="network"
        )
    text = entry.strip()
    below = text.startswith("*.")
    try:
        host, port = authority(_ascii(text.removeprefix("*.")), 0)
        if below and (not isinstance(host, str) or "." not in host):
            raise Odd("it would allow a whole top-level domain")
    except Odd as error:
        raise InvalidArgument(f"network holds {entry[:80]!r}: {error}.", fix=_FIX, name="network") from None
    return Rule(host, (port,) if port else PORTS, below)


def _ascii(text: str) -> str:
    """A name in any script as it is resolved (`bücher.example` is `xn--bcher-kva.example`)."""
    if text.isascii():
        return text
    import idna

    name, colon, port = text.rpartition(":")
    if not colon:
        name, port = text, ""
    try:
        return idna.encode(name, uts46=True).decode("ascii") + colon + port
    except idna.IDNAError:
        raise Odd("it is no host name in any script") from None


def parse(text: str) -> tuple[Host, int]:
    """`HOST:PORT`, exactly.

    Raises:
        Odd: it is none.
    """
    return authority(text, None)


__all__ = ["Allowlist", "Rule", "allowlist", "canonical", "parse"]
