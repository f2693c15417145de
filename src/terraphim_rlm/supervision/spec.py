"""What a supervisor is told: its children, in which order, and what their ends mean."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from terraphim_rlm.core.errors import InvalidArgument

Restart = Literal["permanent", "transient", "temporary"]
"""Started again: always; after an abnormal exit only; never."""
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Shutdown = float | Literal["brutal_kill", "infinity"]
"""How a child is ended: asked, then killed after so many seconds; killed at once; asked, and waited for."""
Kind = Literal["worker", "supervisor"]

WORKER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Exit:
    """Why a child is over."""

    kind: Literal["normal", "shutdown", "killed", "error"]
    why: str = ""
    error: BaseException | None = field(default=None, compare=False, repr=False)

    @property
    def is_abnormal(self) -> bool:
        return self.kind in ("killed", "error")

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}" if self.why else self.kind


class Child:
    """Something that runs, and ends once: OTP's process. Made inside a running event loop."""

    pid: int | None = None
    """Of a child that is an OS process."""
    dies_when_killed = True
    """False where code that swallows its cancellation can refuse."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def ask(self) -> None:
        """Asks it to end (OTP's `shutdown`)."""
        raise NotImplementedError

    def kill(self) -> None:
        """Ends it without asking."""
        raise NotImplementedError

    def over(self, exit: Exit) -> None:
        """For its kind: it has ended."""
        if not self.ended.done():
            self.ended.set_result(exit)


Start = Callable[..., Awaitable[Child | None]]
"""Starts a child and returns once it is started; None = it does not want to run (`ignore`). Raises when it cannot."""
Later = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


@dataclass(frozen=True, slots=True)
class Health:
    """A question asked of a running child; unhealthy, it is ended and counts as crashed."""

    check: Callable[[], Awaitable[bool]]
    """False, an exception, or no answer in time = unhealthy."""
    every: float = 60.0
    """Seconds between two questions."""
    timeout: float = 10.0
    failures: int = 1
    """In a row, until it is believed."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds before a restart: `first`, doubled with each further one within the period, at most `most`."""

    first: float
    most: float = 30.0

    def seconds(self, restarts: int) -> float:
        return min(self.most, self.first * 2.0 ** min(restarts - 1, 60))


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child, or for `simple_one_for_one` the pattern of all."""

    id: str
    start: Start
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    """None = 5 seconds for a worker, `infinity` for a supervisor."""
    type: Kind = "worker"
    significant: bool = False
    """Whether its own end may end the supervisor; see `Flags.auto_shutdown`."""
    health: Health | None = None

    @property
    def ends(self) -> Shutdown:
        """`shutdown`, with its default."""
        if self.shutdown is None:
            return "infinity" if self.type == "supervisor" else WORKER_SECONDS
        return self.shutdown


@dataclass(frozen=True, slots=True)
class Flags:
    """How a supervisor keeps its children."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    """Restarts within `period` that are borne; one more ends the supervisor. 0 = the first crash does."""
    period: int = 5
    """Whole seconds of the monotonic clock."""
    auto_shutdown: AutoShutdown = "never"
    backoff: Backoff | None = None
    """None = restarts at once, as OTP does."""


DEFAULT = Flags(intensity=5, period=60)
LENIENT = Flags(intensity=10, period=120)
STRICT = Flags(strategy="one_for_all", intensity=3, period=30)
NEVER = Flags(intensity=0, period=1)


def check_flags(flags: Flags) -> None:
    """Raises:
    InvalidArgument: what they say cannot be.
    """
    _one_of("strategy", flags.strategy, get_args(Strategy))
    _one_of("auto_shutdown", flags.auto_shutdown, get_args(AutoShutdown))
    _whole("intensity", flags.intensity, 0)
    _whole("period", flags.period, 1)


def check_specs(specs: Iterable[ChildSpec], flags: Flags) -> None:
    """Raises:
    InvalidArgument: a spec cannot be, or two have one id.
    """
    seen: set[str] = set()
    for spec in specs:
        check_spec(spec, flags)
        if spec.id in seen:
            raise InvalidArgument(
                f"Two children are called {spec.id!r}.", fix="Give each its own id.", id=spec.id
            )
        seen.add(spec.id)
    if flags.strategy == "simple_one_for_one" and len(seen) != 1:
        raise InvalidArgument(f"simple_one_for_one takes the spec of one kind of child, not {len(seen)}.")


def check_spec(spec: ChildSpec, flags: Flags) -> None:
    """Raises:
    InvalidArgument: it cannot be.
    """
    if not isinstance(spec, ChildSpec):
        raise InvalidArgument(f"{str(spec)[:80]!r} is no ChildSpec.")
    if not isinstance(spec.id, str) or not spec.id:
        raise InvalidArgument(f"A child's id must be a text that is not empty, not {str(spec.id)[:80]!r}.")
    if not callable(spec.start):
        raise InvalidArgument(f"What starts the child {spec.id!r} cannot be called.")
    _one_of("restart", spec.restart, get_args(Restart))
    _one_of("type", spec.type, get_args(Kind))
    ends = spec.ends
    numeric = (
        isinstance(ends, (int, float)) and not isinstance(ends, bool) and math.isfinite(ends) and ends >= 0
    )
    if not numeric and ends not in ("brutal_kill", "infinity"):
        raise InvalidArgument(
            f"shutdown of {spec.id!r} must be seconds, brutal_kill or infinity, not {ends!r}.",
            name="shutdown",
        )
    if spec.significant and (spec.restart == "permanent" or flags.auto_shutdown == "never"):
        why = "it is permanent" if spec.restart == "permanent" else "auto_shutdown is never"
        raise InvalidArgument(f"The child {spec.id!r} cannot be significant: {why}.", name="significant")


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidArgument(
            f"There is no {name} {value!r}.", fix=f"Use one of: {', '.join(known)}.", name=name
        )


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{name} must be a whole number from {least}, not {value!r}.", name=name)
