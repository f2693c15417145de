"""What the operator of this machine says about the network of sandboxes. Code in a sandbox, and clients, cannot.

Read from the environment of the process that makes sandboxes (for sessions, the daemon's).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from terraphim_rlm.core.errors import ConfigInvalid
from terraphim_rlm.sandbox.egress.names import Host, Odd, authority

PRIVATE, UPSTREAM = "TRLM_EGRESS_PRIVATE", "TRLM_EGRESS_PROXY"
_FIX = {
    PRIVATE: "Write HOST:PORT, several with commas between them, such as index.example.internal:443.",
    UPSTREAM: "Write http://HOST:PORT.",
}


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's settings."""

    private: frozenset[tuple[Host, int]] = frozenset()
    """Hosts and ports that may be reached whatever their address is, by sandboxes that allow them as well."""
    upstream: tuple[Host, int] | None = None
    """A proxy through which everything goes. It looks names up itself, so no address is checked here."""


def read(environment: Mapping[str, str] = os.environ) -> Operator:
    """The settings as they are now.

    Raises:
        ConfigInvalid: one is malformed.
    """
    private = [part.strip() for part in environment.get(PRIVATE, "").split(",") if part.strip()]
    upstream = environment.get(UPSTREAM, "").strip()
    return Operator(
        frozenset(_parsed(PRIVATE, each) for each in private),
        _parsed(UPSTREAM, upstream.removeprefix("http://").removesuffix("/")) if upstream else None,
    )


def _parsed(name: str, text: str) -> tuple[Host, int]:
    try:
        return authority(text, None)
    except Odd as error:
        raise ConfigInvalid(f"{name} holds {text[:80]!r}: {error}.", fix=_FIX[name], name=name) from None
