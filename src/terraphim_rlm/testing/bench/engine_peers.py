"""Other engines doing the same work beside a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from terraphim_rlm.testing.bench.engine_work import figures
from terraphim_rlm.testing.bench.rows import summary
from terraphim_rlm.testing.conformance.engine.targets import LACKS
from terraphim_rlm.testing.engines.peers import ENGINES, PeerEngine


class Beside:
    """Those that take part in a run."""

    def __init__(self, engines: Sequence[PeerEngine], seconds: float) -> None:
        self._engines = engines
        self._limit = seconds

    async def repl(self, count: int) -> dict[str, Any]:
        """Milliseconds of a round trip to the process of a peer's cells."""
        return await self._each({"repl": count}, lambda told: [float(one) for one in told["samples"]])

    async def seconds(self, script: dict[str, Any], repeat: int, scale: float = 1.0) -> dict[str, Any]:
        """How long whole runs took."""
        job = {"script": script, "repeat": repeat}
        return await self._each(job, lambda told: [scale * _answered(one)["seconds"] for one in told["told"]])

    async def timed_inside(self, script: dict[str, Any], repeat: int) -> dict[str, Any]:
        """What the cells of a script measured."""
        job = {"script": script, "repeat": repeat}
        return await self._each(job, lambda told: [one for run in told["told"] for one in figures(run)])

    async def memory(self, script: dict[str, Any], megabytes: float) -> dict[str, Any]:
        """The peak memory of a peer's own process, over the size of its input."""
        job = {"script": script, "repeat": 1}
        found = await self._each(
            job, lambda told: [_answered(one)["rss_mb"] * 1.048576 / megabytes for one in told["told"]]
        )
        self.close()  # a peak is never forgotten
        return found

    async def _each(self, job: dict[str, Any], take: Callable[[Any], list[float]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for engine in self._engines:
            if lack := _lacking(engine.name, job):
                found[engine.name] = {"version": engine.version, "error": f"not offered: {lack}"}
                continue
            told = await engine.job(job, self._limit)
            version = told.get("version")
            if "error" in told:
                found[engine.name] = {"version": version, "error": told["error"]}
                continue
            try:
                found[engine.name] = {"version": version, **summary(take(told))}
            except (AssertionError, ValueError) as error:
                found[engine.name] = {"version": version, "error": str(error)[:300]}
        return found

    def close(self) -> None:
        """Ends their processes."""
        for engine in self._engines:
            engine.kill()


NO_ENGINES = Beside((), 0)


def all_engines(seconds: float) -> Beside:
    """Every engine that there is an adapter for; pip installs it when it is first asked.

    Args:
        seconds: how long one may take for one row.
    """
    return Beside([PeerEngine(peer) for peer in ENGINES], seconds)


_NEEDS = {"imports": "import ", "calls": "llm_query", "children": "rlm_query("}
"""What the cells of a script hold that need it of an engine."""


def _lacking(name: str, job: dict[str, Any]) -> str:
    """Why an engine cannot do a job; empty when nothing is known against it."""
    code = str(job.get("script", {}).get("turns", ""))
    lacks = LACKS.get(name, {})
    return next((lacks[need] for need, word in _NEEDS.items() if need in lacks and word in code), "")


def _answered(told: dict[str, Any]) -> dict[str, Any]:
    if told["error"] is not None:
        raise AssertionError(told["error"])
    return told
