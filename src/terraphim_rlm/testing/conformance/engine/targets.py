"""Engines as targets: ours, and others in environments of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Resources
from terraphim_rlm.testing.conformance.model import EngineCapabilities, Target
from terraphim_rlm.testing.engines import ours
from terraphim_rlm.testing.engines.peers import ENGINES, PeerEngine

OURS = "terraphim-rlm"
_STANDARD = Resources()
_SECONDS = 45.0
_SHARED = {"isolated children": "its children have no sandboxes of their own"}
LACKS: dict[str, dict[str, str]] = {
    "rlms": _SHARED,
    "dspy": {"children": "its children are agents of other kinds, with other inputs"},
    "rlmness": {
        **_SHARED,
        "calls": "it has no plain sub-calls, only children",
        "batched children": "its batches take no question for each",
    },
    "recursive-llm": {
        **_SHARED,
        "fences": "its replies are code without fences",
        "imports": "its cells import nothing",
        "json": "its input is a text",
    },
}
"""What each of them does not offer, with the reason."""


class OurEngine:
    """This engine: each script by a run of its own."""

    capabilities = EngineCapabilities(OURS, {})

    async def ask(self, script: dict[str, Any]) -> dict[str, Any]:
        """Plays a script."""
        return await ours.ask(script)


class Peer:
    """Another engine."""

    def __init__(self, engine: PeerEngine) -> None:
        self._engine = engine
        self.capabilities = EngineCapabilities(engine.name, LACKS[engine.name])

    async def ask(self, script: dict[str, Any]) -> dict[str, Any]:
        """Plays a script.

        Raises:
            AssertionError: its process failed or hung; a finding like any other.
        """
        result = await self._engine.job({"script": script}, _SECONDS)
        if "error" in result:
            raise AssertionError(f"{self._engine.name}: {result['error']}")
        told: dict[str, Any] = result["told"][0]
        return told


@asynccontextmanager
async def opened_engine(name: str) -> AsyncIterator[Target]:
    """The engine called `name`, for as long as the block.

    Raises:
        InvalidArgument: there is none of this name.
    """
    peers = {peer.name: peer for peer in ENGINES}
    if name == OURS:

        @asynccontextmanager
        async def open_ours(*, resources: Resources = _STANDARD) -> AsyncIterator[OurEngine]:
            yield OurEngine()

        yield Target(OURS, open_ours)
        return
    if name not in peers:
        raise InvalidArgument(
            f"There is no engine {name!r}.", fix=f"Use one of: {', '.join((OURS, *peers))}.", name=name
        )
    engine = PeerEngine(peers[name])

    @asynccontextmanager
    async def open_peer(*, resources: Resources = _STANDARD) -> AsyncIterator[Peer]:
        yield Peer(engine)

    try:
        yield Target(name, open_peer)
    finally:
        engine.kill()
