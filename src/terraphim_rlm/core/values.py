"""The shapes that cross rooms and leave the process: frozen, plain, JSON by the same names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from terraphim_rlm.core.errors import InvalidArgument

SCHEMA_VERSION = 1
"""Stamped as `schema_version` on the top level of anything printed or stored."""

Status = Literal[
    "ok", "exit_nonzero", "timeout", "oom", "killed", "disk_full", "blocked", "budget_exceeded",
    "cancelled", "backend_unavailable", "interrupted", "unknown", "internal_error",
]  # fmt: skip
"""How an execution ended."""

Termination = Literal[
    "final", "final_var", "not_found", "token_budget", "time_budget", "cost_budget", "max_turns",
    "stalled", "cancelled", "refused", "error",
]  # fmt: skip
"""How a run ended."""

Unpriced = Literal["refuse", "maximum"]
RunStatus = Literal["accepted", "running", "done", "failed", "cancelled", "interrupted"]
Enforcement = Literal["kernel-group", "per-process", "watched", "none"]
"""Who holds a limit: the kernel, for all of a sandbox together; the kernel, for each process by itself; we, who look and
act when it is passed; nobody."""
Confidence = Literal["verified", "unverified", "not_found"]


def _positive(owner: str, name: str, value: float | None, ceiling: float, *, zero: bool = False) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise InvalidArgument(f"{owner}.{name} must be a number, not {value!r}.", name=name)
    if value < 0 or (value == 0 and not zero) or value > ceiling:
        least = "at least 0" if zero else "more than 0"
        raise InvalidArgument(
            f"{owner}.{name} must be {least} and at most {ceiling:,.0f}, not {value}.",
            fix=f"Give {name} a sensible value, or leave it out for the default.",
            name=name,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a whole run, with all its children, may spend. None = no limit of that kind."""

    tokens: int | None = 100_000
    """Input and output tokens of all model calls together."""
    seconds: float | None = 300
    """Wall time of the run."""
    turns: int | None = 30
    """Model replies of the root node; each child node has the same number again."""
    depth: int = 5
    """Levels below the root; 0 = no child nodes."""
    calls: int | None = 10_000
    """Model calls of the run, turns included."""
    dollars: float | None = None
    """Money; known only for models with a price."""
    unpriced: Unpriced = "refuse"
    """What a model whose price nobody knows is for a run with `dollars`: refused, or charged the highest price known."""

    def __post_init__(self) -> None:
        if self.unpriced not in get_args(Unpriced):
            raise InvalidArgument(
                f"Limits.unpriced must be {' or '.join(get_args(Unpriced))}, not {str(self.unpriced)[:40]!r}.",
                fix="Say what becomes of a model whose price nobody knows.",
                name="unpriced",
            )
        _positive("Limits", "tokens", self.tokens, 1e12)
        _positive("Limits", "seconds", self.seconds, 31_536_000)
        _positive("Limits", "turns", self.turns, 1e6)
        _positive("Limits", "depth", self.depth, 50, zero=True)
        _positive("Limits", "calls", self.calls, 1e9)
        _positive("Limits", "dollars", self.dollars, 1e6)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one sandbox may use."""

    memory_mb: int = 2048
    cpus: float = 1.0
    pids: int = 256
    disk_mb: int = 512
    """Size of each writable file system of the sandbox (/work, /tmp, /dev/shm)."""
    output_bytes: int = 10_485_760
    """Of one execution, stdout and stderr each; the rest is dropped and `truncated` set."""
    network: tuple[str, ...] = ()
    """Names that may be reached: `python.org`, `*.example.org`, `example.org:8443`; empty = no network at all."""
    network_mb: int = 1024
    """That may be carried over the network, both ways together."""

    def __post_init__(self) -> None:
        _positive("Resources", "memory_mb", self.memory_mb, 1_048_576)
        _positive("Resources", "cpus", self.cpus, 1024)
        _positive("Resources", "pids", self.pids, 4_194_304)
        _positive("Resources", "disk_mb", self.disk_mb, 1_048_576)
        _positive("Resources", "output_bytes", self.output_bytes, 1 << 40)
        _positive("Resources", "network_mb", self.network_mb, 1_048_576)
        if not isinstance(self.network, str):  # a list, too, can then be compared and kept by
            object.__setattr__(self, "network", tuple(self.network))


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls cost. Sums with `+`."""

    tokens_in: int = 0
    tokens_cached: int = 0
    """Part of `tokens_in` that the provider served from its prompt cache."""
    tokens_out: int = 0
    tokens_reasoning: int = 0
    """Part of `tokens_out` spent on hidden reasoning."""
    calls: int = 0
    microdollars: int = 0
    estimated: bool = False
    """True when any figure is ours and not the provider's."""

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_cached + other.tokens_cached,
            self.tokens_out + other.tokens_out,
            self.tokens_reasoning + other.tokens_reasoning,
            self.calls + other.calls,
            self.microdollars + other.microdollars,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span of the input that an answer rests on."""

    path: str
    start: int
    """Byte offset in the (decompressed) file."""
    end: int
    line: int
    """1-based line of `start`."""
    quote: str
    verified: bool
    """True when the host read the span itself and found exactly `quote` there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to."""

    run_id: str
    text: str
    value: Any = None
    """The answer as JSON; None when it is not JSON (then `text` is its repr)."""
    confidence: Confidence = "unverified"
    evidence: tuple[Evidence, ...] = ()
    termination: Termination = "final"
    partial: bool = False
    """True when a limit ended the run and this is the best there was."""
    usage: Usage = Usage()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


@dataclass(frozen=True, slots=True)
class CellError:
    """What a cell raised."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a guard noticed; `start` and `end` count characters of the code."""

    rule: str
    severity: Literal["info", "low", "medium", "high", "critical"]
    start: int
    end: int
    message: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard says of a piece of code before it runs."""

    decision: Literal["allow", "warn", "ask", "block"]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How one execution ended and what it said."""

    execution_id: str
    status: Status
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    """None when the execution was killed or timed out."""
    signal: int | None = None
    error: CellError | None = None
    duration_ms: Mapping[str, float] = field(default_factory=dict)
    """By phase: at least `run`."""
    truncated: bool = False
    stdout_bytes: bytes = b""
    spill_path: str | None = None
    """A file with the whole output, when it was longer than what is returned."""
    files_changed: tuple[str, ...] = ()
    """What it made, changed or removed in the work folder, relative to that; empty unless `changes=True` asked for it."""
    state_after: Literal["kept", "lost", "unknown"] = "kept"
    backend: str = ""
    limits_enforced: Mapping[str, Enforcement] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What else the caller should know, one sentence each."""
    verdict: Verdict | None = None
    """What the guard said of the code before it ran; None when nobody looked."""

    def to_json(self) -> dict[str, Any]:
        fields = to_json(self)
        del fields["stdout_bytes"]
        return {"schema_version": SCHEMA_VERSION, **fields}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExecutionResult:
        """What `to_json` made `data` of, without `stdout_bytes`; what a newer version added is left out."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known |= {name: tuple(data.get(name, ())) for name in ("files_changed", "notes")}
        if (error := data.get("error")) is not None:
            known["error"] = CellError(error["type"], error["message"], error.get("traceback", ""))
        if (verdict := data.get("verdict")) is not None:
            findings = tuple(Finding(**each) for each in verdict["findings"])
            known["verdict"] = Verdict(verdict["decision"], findings)
        return cls(**known)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One entry of a sandbox's file system, links not followed."""

    path: str
    """Relative to the folder that was listed, or absolute where the listing was of an absolute path."""
    kind: Literal["file", "folder", "link", "other"]
    size: int
    """Bytes; 0 for what is no file."""
    mode: int
    """Permission bits."""
    modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what an execution says, as it comes."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named state of a sandbox: its files and, by language, its interpreters."""

    id: str
    name: str
    created: float
    """Seconds since the epoch, by the host's clock."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Language -> how its interpreter comes back: `kept`, `replayed` (its cells run again)."""
    variables: tuple[str, ...] = ()
    """Names that Python code had set."""
    missing: tuple[str, ...] = ()
    """What it does not hold, one phrase each; empty unless a partial snapshot was asked for."""

    @property
    def partial(self) -> bool:
        return bool(self.missing)


@dataclass(frozen=True, slots=True)
class SnapshotDiff:
    """What changed from one state to a later one. Paths are absolute; of each kind about 10,000 at most."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    variables_added: tuple[str, ...] = ()
    variables_removed: tuple[str, ...] = ()
    truncated: bool = False
    """True when there were more paths than are named."""


@dataclass(frozen=True, slots=True)
class ExecutorCapabilities:
    """What a backend was measured to do on this machine."""

    backend: str
    isolation_level: Literal["vm", "user_space_kernel", "container", "namespaces"]
    supports_snapshots: Mapping[str, Literal["none", "files", "files+interpreter", "full"]]
    """By language."""
    supports_network: bool
    languages: tuple[str, ...]
    limits: Mapping[str, Enforcement]
    max_session_duration: float | None
    """Seconds; None = as long as the owning process lives."""
    cold_start_estimate: float
    """Seconds, measured by the probe."""
    versions: Mapping[str, str] = field(default_factory=dict)
    known_holes: tuple[str, ...] = ()
    not_enforced: tuple[str, ...] = ()
    """What of `limits` is held less than this backend can, as `NAME: what that means`, and so everything that an
    ordinary user lacks; empty when nothing is missing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a doctor looked at."""

    id: str
    status: Literal["ok", "warn", "fail"]
    evidence: str
    """What was seen, one line."""
    fix: str = ""
    """What to do about it; empty when ok."""


def to_json(value: Any) -> Any:
    """Dataclasses, mappings and sequences as JSON values, by the same names."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [to_json(item) for item in value]
    return value
