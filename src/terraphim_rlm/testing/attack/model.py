"""What a row of the attack table is made of, and what is seen while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from terraphim_rlm.core.values import ExecutionResult, Resources

if TYPE_CHECKING:
    from terraphim_rlm.testing.attack.stage import Stage

Severity = Literal["P0", "P1", "P2"]
"""P0: escape, leak, or another tenant touched. P1: a hang, a leak of resources, a wrong status. P2: quality."""

Need = Literal[
    "network", "bottle", "memory-group", "pids-group", "cpu-group", "service", "rust", "go", "root", "keeper"
]
"""`network`: a network namespace of the harness with sinks; `bottle`: a throwaway host. `..-group`: the backend's limit
holds a whole group. `service`: the daemon of sessions. `rust`, `go`: their compilers. `root`: to be root.
`keeper`: bubblewrap's, which the row looks at or stops."""

SMALL = Resources(memory_mb=256, cpus=1.0, pids=64, disk_mb=64, output_bytes=1 << 20)
SECONDS = 5.0
"""Time-out of one step, when the row names none."""

LATE = 5.0
"""Seconds past its time-out at which a step must have ended."""
HANG = 10.0
"""Seconds past that after which a step is given up as hanging."""
SETTLE = 10.0
"""Seconds that what is ending may take until a condition counts as broken."""

PRELUDE = """
import ctypes, errno, os, sys, time
_libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    answer = _libc.syscall(ctypes.c_long(number), *arguments)
    return answer if answer >= 0 else -ctypes.get_errno()
def harm(*what): print("HARM", *what, flush=True)
def tried(count): print("TRIED", count, flush=True)
def read(path, most=65536):
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most)
    except OSError:
        return b""
"""
"""In front of every Python payload. A payload says `harm(..)` of what it got, and `tried(n)` at its end."""


@dataclass(frozen=True, slots=True)
class Step:
    """One execution. `@WORDS@` in the code are replaced by what the laboratory has, see `lab.Lab.words`."""

    code: str
    language: Literal["python", "bash", "sh", "rust", "go"] = "python"
    expect: tuple[str, ...] = ("ok",)
    """Statuses that are right; `refused`: the API does not take it."""
    timeout: float = SECONDS
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    sandbox: int = 1
    """Steps of a higher number run in a further sandbox, after the last one was closed."""
    beside: str = ""
    """Python code that runs in a second interpreter of the same sandbox from before the step until after it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One step's end, as the harness saw it."""

    step: Step
    result: ExecutionResult | None
    """None: the API refused the step."""
    refusal: str
    seconds: float
    streamed: str
    """What `on_output` got."""
    beside: ExecutionResult | None = None
    alive: bool = True
    """Whether the sandbox still stood when the step was over."""

    @property
    def status(self) -> str:
        return "refused" if self.result is None else self.result.status

    @property
    def text(self) -> str:
        """All that came out of the sandbox by this step."""
        result = self.result
        if result is None:
            return self.refusal
        error = result.error
        parts = [result.stdout, result.stderr, self.streamed, *result.notes]
        parts += [error.message, error.traceback] if error else []
        parts += [self.beside.stdout, self.beside.stderr] if self.beside else []
        return "\n".join(parts)

    @property
    def stdout(self) -> str:
        return self.result.stdout if self.result else ""


Act = Callable[["Stage"], Awaitable[None]]
"""A row that takes more than steps one after another."""
Check = Callable[[list[Seen]], str]
"""What is wrong about what was seen; empty when nothing is."""


def nothing_more(_seen: list[Seen]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Row:
    """One case of the catalogue."""

    id: str
    severity: Severity
    name: str
    steps: tuple[Step, ...] = ()
    act: Act | None = None
    """Runs after the steps, in sandboxes that it opens itself."""
    most: float = 60.0
    """Seconds that the act may take; the steps have their own time-outs."""
    off: tuple[str, ...] = ()
    """Protections (`protections.PROTECTIONS`) without which the same steps do the harm. More than one: each alone holds."""
    no_control: str = ""
    """Why a P0 row has no control."""
    needs: tuple[Need, ...] = ()
    check: Check = nothing_more
    """Of the row's steps, beyond statuses and harm."""
    harmed: Check = nothing_more
    """Harm that no payload can report itself, for row and control alike."""
    resources: Resources = SMALL
    binds: bool = False
    """Whether the canary's folder is handed in, read-only."""

    @property
    def deadline(self) -> float:
        """Seconds after which the row is given up as hanging, whatever it waits for."""
        steps = sum(step.timeout + LATE + HANG for step in self.steps)
        return steps + (self.most if self.act else 0.0) + SETTLE + LATE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row, or its control, came out."""

    id: str
    kind: Literal["row", "control"]
    verdict: Literal["passed", "failed", "not_run"]
    why: str = ""
    """What was wrong; for a control that passed, the harm it did."""
    seconds: float = 0.0
    hung: bool = False
