"""Every error this package raises on purpose, as one tree and one table.

RlmError
├── UsageError (ValueError)          the caller asked for something that cannot be
│   ├── InvalidArgument  MissingArgument  UnknownCommand  ConfigInvalid
│   ├── PathNotFound  PathIsFolder  PathDenied  FileTooLarge
│   ├── InputUnreadable  InputEmpty  RunNotFound  RunUnreachable  PackageNotFound
│   └── UnknownModel  ModelNotInstalled  KeyMissing
├── ModelError                       the model's provider failed, or refused us
│   ├── ModelAuth  ModelUnreachable  ModelTimeout  ModelRateLimited
│   └── ModelProtocol  ModelRefused  PromptTooLong  ScriptExhausted
├── BudgetExceeded                   a limit of the run was reached
│   ├── TokenBudgetExceeded  TimeBudgetExceeded  CostBudgetExceeded
│   └── TurnLimitExceeded  CallLimitExceeded  DepthLimitExceeded
├── ExecutionError                   code ran, and what it did is the news
│   └── ExecutionFailed  ExecutionTimeout
├── ValidationError
│   └── ReplyInvalid  SchemaMismatch  CodeBlocked  EscalationRequired
├── BackendError                     the sandbox's provider failed
│   ├── BackendUnavailable  SandboxStartFailed  SandboxLost  SandboxBusy  PoolExhausted
│   └── NotSupported  PackagesUnavailable  ToolchainMissing
├── SnapshotError                    a state cannot be kept, or cannot come back
│   └── SnapshotNotFound  SnapshotRefused  SnapshotLimit  SnapshotLost
├── SessionError                     a session that is not there, or no further one
│   └── SessionNotFound  SessionExpired  SessionLost  SessionLimit
├── DaemonError                      the process that keeps sessions
│   └── DaemonUnavailable  DaemonMismatch  DaemonRunning
├── SupervisionError                 parts of the service that do not start, or do not stay up
│   └── ChildError  CrashLoop
├── AccessError                      somebody may not do what he asks for
│   └── KeyRefused  Forbidden  KeyNotFound  KeysUnreadable
├── StoreError
│   └── JournalCorrupt  JournalTooNew  JournalUnavailable  DiskFull
├── Cancelled
└── InternalError                    a bug of ours

`TABLE` gives each leaf its stable code, exit code, HTTP status, MCP code, termination, blame and
the fix that is shown when the raiser gives none. Exit codes 0 to 7 are those of Terraphim's robot
mode; 8 execution, 9 budget, 10 validation, 11 backend, 12 snapshot and 130 interrupt are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Blame = Literal["user", "provider", "us"]


class RlmError(Exception):
    """Root of the tree.

    Args:
        message: what happened and why, one sentence.
        fix: what the reader should do; the table's advice when empty.
        details: JSON values that name the thing (path, limit, model ..). Never a secret.
    """

    def __init__(self, message: str, *, fix: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self._fix = fix

    @property
    def row(self) -> ErrorRow:
        """The table's row of this error's class, or of its nearest ancestor that has one."""
        for cls in type(self).__mro__:
            if cls in TABLE:
                return TABLE[cls]
        return TABLE[InternalError]

    @property
    def fix(self) -> str:
        """What the reader should do about it."""
        return self._fix or self.row.fix

    def to_json(self) -> dict[str, Any]:
        """`{"code", "message", "fix", "details"}`, the shape every face prints."""
        return {
            "code": self.row.code,
            "message": self.message,
            "fix": self.fix,
            "details": self.details,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._fix, self.details)


def _rebuild(cls: type[RlmError], message: str, fix: str, details: dict[str, Any]) -> RlmError:
    return cls(message, fix=fix, **details)


class UsageError(RlmError, ValueError): ...


class InvalidArgument(UsageError): ...


class MissingArgument(UsageError): ...


class UnknownCommand(UsageError): ...


class ConfigInvalid(UsageError): ...


class PathNotFound(UsageError): ...


class PathIsFolder(UsageError): ...


class PathDenied(UsageError): ...


class FileTooLarge(UsageError): ...


class PackageNotFound(UsageError): ...


class InputUnreadable(UsageError): ...


class InputEmpty(UsageError): ...


class RunNotFound(UsageError): ...


class RunUnreachable(UsageError): ...


class UnknownModel(UsageError): ...


class ModelNotInstalled(UsageError): ...


class KeyMissing(UsageError): ...


class ModelError(RlmError): ...


class ModelAuth(ModelError): ...


class ModelUnreachable(ModelError): ...


class ModelTimeout(ModelError): ...


class ModelRateLimited(ModelError): ...


class ModelProtocol(ModelError): ...


class ModelRefused(ModelError): ...


class PromptTooLong(ModelError): ...


class ScriptExhausted(ModelError): ...


class BudgetExceeded(RlmError): ...


class TokenBudgetExceeded(BudgetExceeded): ...


class TimeBudgetExceeded(BudgetExceeded): ...


class CostBudgetExceeded(BudgetExceeded): ...


class TurnLimitExceeded(BudgetExceeded): ...


class CallLimitExceeded(BudgetExceeded): ...


class DepthLimitExceeded(BudgetExceeded): ...


class ExecutionError(RlmError): ...


class ExecutionFailed(ExecutionError): ...


class ExecutionTimeout(ExecutionError): ...


class ValidationError(RlmError): ...


class ReplyInvalid(ValidationError): ...


class SchemaMismatch(ValidationError): ...


class CodeBlocked(ValidationError): ...


class EscalationRequired(ValidationError): ...


class BackendError(RlmError): ...


class BackendUnavailable(BackendError): ...


class SandboxStartFailed(BackendError): ...


class SandboxLost(BackendError): ...


class SandboxBusy(BackendError): ...


class PoolExhausted(BackendError): ...


class NotSupported(BackendError): ...


class PackagesUnavailable(BackendError): ...


class ToolchainMissing(NotSupported): ...


class SnapshotError(RlmError): ...


class SnapshotNotFound(SnapshotError): ...


class SnapshotRefused(SnapshotError): ...


class SnapshotLimit(SnapshotError): ...


class SnapshotLost(SnapshotError): ...


class SessionError(RlmError): ...


class SessionNotFound(SessionError): ...


class SessionExpired(SessionError): ...


class SessionLost(SessionError): ...


class SessionLimit(SessionError): ...


class DaemonError(RlmError): ...


class DaemonUnavailable(DaemonError): ...


class DaemonMismatch(DaemonError): ...


class DaemonRunning(DaemonError): ...


class SupervisionError(RlmError): ...


class ChildError(SupervisionError): ...


class CrashLoop(SupervisionError): ...


class AccessError(RlmError): ...


class KeyRefused(AccessError): ...


class Forbidden(AccessError): ...


class KeyNotFound(AccessError): ...


class KeysUnreadable(AccessError): ...


class StoreError(RlmError): ...


class JournalCorrupt(StoreError): ...


class JournalTooNew(StoreError): ...


class JournalUnavailable(StoreError): ...


class DiskFull(StoreError): ...


class Cancelled(RlmError): ...


class InternalError(RlmError): ...


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What the outside sees of one error class."""

    code: str
    exit_code: int
    http: int
    mcp: int
    termination: str
    """The termination of a run that this error ends (see `values.TERMINATIONS`)."""
    blame: Blame
    fix: str


_R = ErrorRow
TABLE: dict[type[RlmError], ErrorRow] = {
    UnknownCommand: _R("E001", 2, 404, -32601, "error", "user", "Run `trlm --help` to see the commands."),
    InvalidArgument: _R("E002", 2, 422, -32602, "error", "user", "Correct the value and try again."),
    MissingArgument: _R("E003", 2, 422, -32602, "error", "user", "Give the missing value and try again."),
    PathNotFound: _R("E101", 4, 404, -32602, "error", "user", "Check the spelling of the path."),
    InputUnreadable: _R("E102", 2, 422, -32602, "error", "user", "Give a readable text file or folder."),
    InputEmpty: _R("E103", 2, 422, -32602, "error", "user", "Give an input that is not empty."),
    RunNotFound: _R("E104", 4, 404, -32001, "error", "user", "`trlm runs list` shows the runs there are."),
    RunUnreachable: _R("E110", 11, 503, -32000, "error", "user", "Stop it where it was started: Ctrl-C, or end its process."),
    PathIsFolder: _R("E106", 2, 422, -32602, "error", "user", "Name a file in the folder."),
    PathDenied: _R("E107", 2, 403, -32602, "error", "user", "Name a path that the code in the sandbox may use itself."),
    FileTooLarge: _R("E108", 2, 413, -32602, "error", "user", "Read or write it in blocks."),
    PackageNotFound: _R("E109", 4, 404, -32602, "error", "user", "Check the package's name and version."),
    ConfigInvalid: _R("E105", 2, 422, -32602, "error", "user", "Correct the configuration file."),
    UnknownModel: _R("E201", 2, 422, -32602, "error", "user", "Name a model as provider/model, for example ollama/llama3.2:3b."),
    ModelNotInstalled: _R("E202", 3, 424, -32602, "error", "user", "Run `trlm models get smollm2`, or name a model with --model."),
    KeyMissing: _R("E203", 5, 401, -32602, "error", "user", "Put the provider's key into its environment variable."),
    ModelAuth: _R("E204", 5, 401, -32000, "error", "user", "Check that the provider's key is valid and may use this model."),
    ModelUnreachable: _R("E205", 6, 503, -32000, "error", "provider", "Check the base URL and that the server is running."),
    ModelTimeout: _R("E206", 7, 504, -32000, "error", "provider", "Try again later, or raise --seconds."),
    ModelRateLimited: _R("E207", 6, 429, -32000, "error", "provider", "Wait and try again; the provider limits your rate."),
    ModelProtocol: _R("E208", 6, 502, -32000, "error", "provider", "Check that the base URL speaks this provider's protocol."),
    ModelRefused: _R("E209", 1, 502, -32000, "refused", "provider", "Rephrase the question, or name another model."),
    PromptTooLong: _R("E210", 10, 413, -32602, "error", "user", "Split the text into smaller pieces; `chunks` does it."),
    ScriptExhausted: _R("E211", 6, 502, -32000, "error", "user", "Add replies to the script."),
    ExecutionFailed: _R("E301", 8, 500, -32020, "error", "user", "Read the traceback and mend the code."),
    ExecutionTimeout: _R("E302", 7, 504, -32021, "error", "user", "Raise the time-out or make the code faster."),
    TokenBudgetExceeded: _R("E401", 9, 402, -32010, "token_budget", "user", "Raise --tokens."),
    TimeBudgetExceeded: _R("E402", 9, 402, -32011, "time_budget", "user", "Raise --seconds."),
    DepthLimitExceeded: _R("E403", 9, 402, -32012, "error", "user", "Raise --depth, or ask with llm_query instead."),
    CostBudgetExceeded: _R("E404", 9, 402, -32010, "cost_budget", "user", "Raise --dollars."),
    CallLimitExceeded: _R("E405", 9, 402, -32010, "token_budget", "user", "Raise the limit of calls."),
    TurnLimitExceeded: _R("E406", 9, 402, -32010, "max_turns", "user", "Raise --turns."),
    ReplyInvalid: _R("E501", 10, 422, -32700, "stalled", "provider", "Name a stronger model."),
    SchemaMismatch: _R("E502", 10, 422, -32602, "error", "provider", "Loosen the schema, or name a stronger model."),
    CodeBlocked: _R("E503", 10, 403, -32030, "error", "user", "Change the code that the rule names."),
    EscalationRequired: _R("E504", 10, 403, -32031, "error", "user", "Let somebody decide: ask in a terminal, or give the guard a function (`ask=`)."),
    BackendUnavailable: _R("E601", 11, 503, -32050, "error", "provider", "Run `trlm doctor`; it names what is missing."),
    SandboxStartFailed: _R("E602", 11, 503, -32050, "error", "provider", "Run `trlm doctor`; it names what is missing."),
    SandboxLost: _R("E603", 11, 502, -32022, "error", "provider", "Try again; the sandbox ended before it answered."),
    NotSupported: _R("E604", 11, 501, -32070, "error", "user", "Name a backend that can do this."),
    ToolchainMissing: _R("E607", 11, 501, -32070, "error", "user", "Install the language for all users, or name a backend that has it."),
    SandboxBusy: _R("E605", 11, 409, -32050, "error", "user", "Wait for what runs in it, or let it wait longer."),
    PoolExhausted: _R("E608", 11, 503, -32050, "error", "provider", "Try again soon; `trlm pool status` tells how the pool stands."),
    PackagesUnavailable: _R("E606", 6, 503, -32050, "error", "provider", "Check the network and pip's settings (`pip config list`); what was fetched once needs neither."),
    SnapshotNotFound: _R("E701", 12, 404, -32040, "error", "user", "Look at the list of snapshots for its names."),
    SnapshotRefused: _R("E702", 12, 409, -32000, "error", "user", "End or close what is named, then take the snapshot again."),
    SnapshotLimit: _R("E703", 12, 409, -32000, "error", "user", "Forget a snapshot that is not needed any more."),
    SnapshotLost: _R("E704", 12, 410, -32000, "error", "user", "Go back to another snapshot; code in the sandbox ended this one."),
    SessionNotFound: _R("E651", 4, 404, -32001, "error", "user", "`trlm session list` shows the sessions there are."),
    SessionExpired: _R("E652", 4, 410, -32002, "error", "user", "Make another one with `trlm session new`; `trlm session extend` in time keeps one."),
    SessionLost: _R("E653", 4, 410, -32002, "error", "provider", "Make another one with `trlm session new`."),
    SessionLimit: _R("E654", 2, 429, -32000, "error", "user", "End a session that is not needed: `trlm session destroy`."),
    DaemonUnavailable: _R("E661", 11, 503, -32050, "error", "provider", "Run `trlm serve` in a terminal and read what it says."),
    DaemonMismatch: _R("E662", 11, 503, -32050, "error", "user", "End the other version's daemon, and its sessions with it: `trlm serve --stop`."),
    DaemonRunning: _R("E663", 1, 409, -32000, "error", "user", "Use the one that runs, or end it: `trlm serve --stop`."),
    ChildError: _R("E671", 1, 409, -32000, "error", "us", "Look at the child's state first, or read why it could not start."),
    CrashLoop: _R("E672", 1, 500, -32000, "error", "us", "Mend what the last crash names, then start again."),
    KeyRefused: _R("E681", 5, 401, -32000, "error", "user", "Send `Authorization: Bearer KEY`; `trlm keys create NAME` makes one."),
    Forbidden: _R("E682", 5, 403, -32000, "error", "user", "Use a key with the scope that is named, or ask from where it is allowed."),
    KeyNotFound: _R("E683", 4, 404, -32602, "error", "user", "`trlm keys list` shows the keys there are."),
    KeysUnreadable: _R("E684", 1, 500, -32000, "error", "us", "Mend or remove the file; without it there are no keys, and nobody gets in over TCP."),
    JournalCorrupt: _R("E801", 1, 500, -32000, "error", "us", "Move the journal away; a new one is made at the next start."),
    JournalTooNew: _R("E802", 1, 500, -32000, "error", "user", "Upgrade terraphim-rlm; a newer version wrote this journal."),
    DiskFull: _R("E803", 1, 507, -32000, "error", "user", "Free disk space, or set TRLM_DATA to another disk."),
    JournalUnavailable: _R("E804", 1, 503, -32000, "error", "user", "Make the data folder writable, or set TRLM_DATA to another folder."),
    Cancelled: _R("E130", 130, 499, -32099, "cancelled", "user", "Nothing to mend: it was stopped on request."),
    InternalError: _R("E900", 1, 500, -32000, "error", "us", "This is a bug: report it with the output of --debug."),
}  # fmt: skip


def from_json(data: Mapping[str, Any]) -> RlmError:
    """The error that `to_json` made `data` of; an `InternalError` where its code is not in the table."""
    kind = next((cls for cls, row in TABLE.items() if row.code == data.get("code")), InternalError)
    details = data.get("details")
    known = {str(name): value for name, value in details.items()} if isinstance(details, Mapping) else {}
    for name in ("message", "fix"):
        known.pop(name, None)
    return kind(str(data.get("message", "")), fix=str(data.get("fix", "")), **known)


def catalogue() -> list[dict[str, Any]]:
    """The table as JSON rows, for documentation and `--json`."""
    return [
        {"class": cls.__name__, **{name: getattr(row, name) for name in ErrorRow.__slots__}}
        for cls, row in TABLE.items()
    ]
