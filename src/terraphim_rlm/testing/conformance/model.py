"""What a case of a conformance suite is, what it runs on, and what it may need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from terraphim_rlm.core.values import ExecutorCapabilities, Resources

Box = Any
"""Something with the methods of `terraphim_rlm.Sandbox`. No static type: wrappers that forward by name are welcome."""
Work = Callable[[], Awaitable[Any]]
"""A call that is not made yet."""
Run = Callable[[Any], Awaitable[None]]
SECONDS = 20.0
"""Time limit of a case, where it names none."""


class Opener(Protocol):
    """Opens a sandbox for the length of a block."""

    def __call__(self, *, resources: Resources = ...) -> AbstractAsyncContextManager[Box]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of sandbox, as the suite sees it."""

    name: str
    open: Opener


@dataclass(frozen=True, slots=True)
class Case:
    """One claim about every sandbox, and the code that tries it."""

    name: str
    """A sentence that states the claim; unique in the suite."""
    group: str
    run: Run
    needs: tuple[str, ...] = ()
    """See `lacking`."""
    gets: Literal["shared", "fresh", "opener"] = "shared"
    """What `run` is given: a sandbox that other cases use too, one of its own, or the target's `open`."""
    resources: Resources = Resources()  # noqa: RUF009 - frozen
    """Of its own sandbox."""
    seconds: float = SECONDS
    source: str = ""
    """The issue or measurement that it comes from, where it was somebody's."""


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What an engine says of itself."""

    name: str
    lacks: Mapping[str, str]
    """What it does not offer -> why: `children`, `calls`, `fences`, `json`, `batched children`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case came out."""

    case: Case
    verdict: Literal["passed", "failed", "skipped"]
    why: str = ""
    seconds: float = 0.0
    error: BaseException | None = None
    """What ended it; an `AssertionError` when it failed by what it asserts."""


class Group:
    """The cases of one group. Each is a function whose name, read as words, is the claim."""

    def __init__(self, name: str, *needs: str) -> None:
        self.name = name
        self.cases: list[Case] = []
        self._needs = needs

    def shared(self, *needs: str, seconds: float = SECONDS) -> Callable[[Run], Run]:
        """A case that leaves its sandbox usable: `run(box)`."""
        return self._add("shared", needs, Resources(), seconds)

    def fresh(self, *needs: str, seconds: float = SECONDS, **resources: Any) -> Callable[[Run], Run]:
        """A case with a sandbox of its own, with these `Resources`: `run(box)`."""
        return self._add("fresh", needs, Resources(**resources), seconds)

    def opening(self, *needs: str, seconds: float = SECONDS) -> Callable[[Run], Run]:
        """A case that opens its sandboxes itself: `run(open)`."""
        return self._add("opener", needs, Resources(), seconds)

    def _add(
        self,
        gets: Literal["shared", "fresh", "opener"],
        needs: tuple[str, ...],
        resources: Resources,
        seconds: float,
    ) -> Callable[[Run], Run]:
        def add(run: Run) -> Run:
            name = getattr(run, "__name__", "").replace("_", " ").strip()
            self.cases.append(Case(name, self.name, run, (*self._needs, *needs), gets, resources, seconds))
            return run

        return add


def lacking(need: str, capabilities: Any) -> str:
    """What the capability table lacks for a need; empty when nothing. The only reason for which a case is skipped.

    Args:
        need: `language:NAME`; `group:LIMIT`, a limit held for the sandbox as a whole; `limit:LIMIT`, one held in
            any way; `files:LANGUAGE` or `interpreter:LANGUAGE`, what a snapshot holds besides; `network`; `offers:WHAT` of
            an engine.
        capabilities: a sandbox's `ExecutorCapabilities`, or `EngineCapabilities`.
    """
    kind, _, name = need.partition(":")
    return _NEEDS[kind](name, capabilities)


def _network(_name: str, capabilities: ExecutorCapabilities) -> str:
    return "" if capabilities.supports_network else f"{capabilities.backend} gives no network here"


def _language(name: str, capabilities: ExecutorCapabilities) -> str:
    return "" if name in capabilities.languages else f"{capabilities.backend} has no {name} here"


def _group(name: str, capabilities: ExecutorCapabilities) -> str:
    held = capabilities.limits.get(name, "none")
    return "" if held == "kernel-group" else f"{name} is not limited for a sandbox as a whole here ({held})"


def _limit(name: str, capabilities: ExecutorCapabilities) -> str:
    return f"{name} is not limited here" if capabilities.limits.get(name, "none") == "none" else ""


def _files(language: str, capabilities: ExecutorCapabilities) -> str:
    held = capabilities.supports_snapshots.get(language, "none")
    return "" if held != "none" else f"{capabilities.backend} has no snapshots of {language} here"


def _interpreter(language: str, capabilities: ExecutorCapabilities) -> str:
    held = capabilities.supports_snapshots.get(language, "none")
    return (
        ""
        if held in ("files+interpreter", "full")
        else f"snapshots here hold no state of {language} ({held})"
    )


def _offers(what: str, capabilities: EngineCapabilities) -> str:
    return capabilities.lacks.get(what, "")


_NEEDS: dict[str, Callable[[str, Any], str]] = {
    "language": _language,
    "group": _group,
    "limit": _limit,
    "files": _files,
    "interpreter": _interpreter,
    "offers": _offers,
    "network": _network,
}
