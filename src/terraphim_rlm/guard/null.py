"""The guard of runs that were given none: everything may run. Isolation is the boundary, not this."""

from __future__ import annotations

from terraphim_rlm.core.values import Verdict

_ALLOW = Verdict("allow")


class NullGuard:
    """Allows everything."""

    async def verdict(self, code: str, language: str) -> Verdict:
        return _ALLOW
