"""What a backend is asked for and what it gives.

Six things: `Backend.probe` and `Backend.create`; `Machine.execute`, `Machine.files`, `Machine.snapshot` with
`Machine.restore`, and `Machine.destroy`. All else (queues, deadlines, names of snapshots, results, statistics) is
written once above them, in `Sandbox`. A backend whose sandboxes run our guest gives a `GuestLink`, over which
`GuestMachine` does what a guest can do.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from terraphim_rlm.core.network import Access, NetworkStatistics
from terraphim_rlm.core.values import ExecutorCapabilities, FileInfo, Resources

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.languages.python import Interpreter
    from terraphim_rlm.sandbox.link.execution import CellEnd
    from terraphim_rlm.sandbox.link.streams import OnOutput
    from terraphim_rlm.sandbox.queue import Queue

Sockets = list[socket.socket]
HOME = "/work"
"""Where code runs when nobody names another folder."""
ROOTS = (HOME, "/tmp")  # noqa: S108 - the sandbox's own
"""The folders whose files belong to a sandbox's state; a snapshot holds them."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the sandbox's own
"""Where files are memory that processes share; a snapshot holds none, so a rollback leaves none."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One sandbox to be."""

    resources: Resources = Resources()  # noqa: RUF009 - frozen
    env: Mapping[str, str] = field(default_factory=dict)
    """For the code in the sandbox; whoever starts a cell hands it over. No backend's own program sees it."""
    binds: Mapping[str, str] = field(default_factory=dict)
    """Host path -> absolute path in the sandbox, bound read-only. Must be readable by the sandbox's own uid."""
    guest: Mapping[str, bytes] | None = None
    """Files (name -> content) to run in place of the package's own guest; `start.py` or `start.pyc` is run."""
    packages: tuple[str, ...] = ()
    """Python packages such as `numpy==2.*`, for code in the sandbox to import; see `packages.requirements`."""
    on_step: Callable[[str], None] | None = field(default=None, compare=False)
    """Gets a line for each step of fetching packages, on the event loop; nothing when they lie here already."""


@dataclass(frozen=True, slots=True)
class Request:
    """One execution, already checked."""

    code: str
    language: str
    """One of `languages.LANGUAGES`, or `sh`: a shell from start to end."""
    timeout: float | None
    """Seconds; None = as long as it takes."""
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    """None = where the interpreter is; for programs from start to end, the sandbox's work folder."""
    on_output: OnOutput | None = None
    program: bytes | None = None
    """What `code` was compiled to; always there for languages that are."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs or compiles a language in a backend's sandboxes."""

    program: str
    """Absolute path in a sandbox that has `binds`."""
    identity: str
    """Another one means that it may compile to something else."""
    binds: Mapping[str, str] = field(default_factory=dict)
    """For `SandboxSpec.binds`."""


@dataclass(frozen=True, slots=True)
class GuestEnd:
    """How a sandbox ended as a whole; its pid 1 exited with `exit_code` or was killed by `signal`."""

    exit_code: int | None
    signal: int | None
    oom: bool = False
    """True when the kernel killed something in it for memory at any time of its life."""


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a sandbox takes up now, as the kernel counts it; None where it does not."""

    memory_bytes: int | None = None
    """Its files count too: they lie in memory."""
    processes: int | None = None
    """And threads."""


class GuestLink(Protocol):
    """A started guest."""

    @property
    def socket(self) -> socket.socket:
        """Connected AF_UNIX SOCK_SEQPACKET to the guest's supervisor; carries descriptors. The taker closes it."""
        ...

    @property
    def capabilities(self) -> ExecutorCapabilities:
        """As measured, once `Backend.probe` has run; before that, what was set up for this sandbox."""
        ...

    async def ended(self) -> GuestEnd:
        """Waits until nothing of the sandbox is left."""
        ...

    async def destroy(self) -> None:
        """Ends it; returns when nothing of it is left. Idempotent."""
        ...

    def oom_kills(self) -> int:
        """How often the kernel has killed in it for memory; 0 where the kernel does not tell."""
        ...

    def consumption(self) -> Consumption:
        """What it takes up now."""
        ...

    async def file_states(self, name: str, *arguments: Any) -> Any:
        """One step with the states of the files below `ROOTS`; the names are those of `keeper.views.Views`.

        Raises:
            OSError: it could not be done, and nothing has changed.
            SnapshotLost: the states are gone.
        """
        ...

    async def doors(self, sockets: Sequence[tuple[str, str, int]]) -> Sockets:
        """Sockets that listen inside, at (`tcp` or `udp`, address, port), and are answered here; the taker closes them.

        Raises:
            OSError: they could not be made.
            NotSupported: this backend makes none.
        """
        ...


class MachineNetwork(Protocol):
    """What a machine with a network reaches, and is refused."""

    @property
    def refused(self) -> int:
        """Refusals so far."""
        ...

    def notes(self, since: int) -> list[str]:
        """What was refused after the first `since` refusals, a sentence each."""
        ...

    def statistics(self) -> NetworkStatistics: ...


class MachineState(Protocol):
    """What a machine was at one moment. Only the machine that made it knows what is in it."""

    @property
    def languages(self) -> Mapping[str, str]:
        """Language -> how its interpreter comes back: `kept`, `replayed`."""
        ...

    @property
    def variables(self) -> tuple[str, ...]:
        """Names that Python code had set."""
        ...

    @property
    def missing(self) -> tuple[str, ...]:
        """What it does not hold, one phrase each."""
        ...


class MachineFiles(Protocol):
    """The files of a machine, as its own code sees them. Paths are absolute, and checked: no NUL, at most 4,095 bytes.

    All raise PathNotFound, PathIsFolder, PathDenied, or SandboxLost when it has ended meanwhile; a pipe, socket or
    device is refused, never waited for. Whoever stops early leaves nothing behind.
    """

    def read(self, path: str, *, size: int, limit: int | None) -> AsyncGenerator[bytes, None]:
        """A file's content in blocks of at most `size` bytes, no faster than they are taken.

        Raises:
            FileTooLarge: it has more than `limit` bytes.
        """
        ...

    async def write(self, path: str, blocks: AsyncIterable[bytes | memoryview]) -> None:
        """A file of these bytes, its folders made; all or nothing, also when `blocks` raises.

        Raises:
            DiskFull: they do not fit; what was there before still is.
        """
        ...

    async def entries(self, path: str, *, deep: bool) -> list[FileInfo]:
        """What is in a folder, in any order; paths are relative to it. Links are not followed.

        Raises:
            FileTooLarge: there are too many.
        """
        ...

    async def remove(self, path: str) -> None:
        """A file, link, or folder with all in it. Links are not followed."""
        ...


class Machine(Protocol):
    """One made sandbox. Its owner sees to it that what must not overlap does not: see `turns`."""

    @property
    def capabilities(self) -> ExecutorCapabilities: ...

    @property
    def is_open(self) -> bool:
        """Whether it lives."""
        ...

    @property
    def network(self) -> MachineNetwork | None:
        """None: it has none."""
        ...

    on_access: Callable[[Access], None] | None
    """Is told of what code in this machine reaches outside, and is refused."""

    @property
    def turns(self) -> Queue:
        """In which executions wait; machines that share what cannot be used at once share it."""
        ...

    async def execute(self, request: Request) -> CellEnd:
        """Runs it to its end; a time-out is an end.

        Raises:
            NotSupported: it cannot run this language; the fix is named.
            SandboxLost: it has ended.
        """
        ...

    @property
    def files(self) -> MachineFiles: ...

    @property
    def line(self) -> int:
        """Of machines that share their turns, those of different lines never work at once."""
        ...

    @property
    def python(self) -> Interpreter:
        """The interpreter of Python executions, for who answers sub-calls of its cells.

        Raises:
            NotSupported: this backend carries no sub-calls.
        """
        ...

    def new_interpreter(self, cwd: str) -> Interpreter:
        """A further Python interpreter, with its own folder, output and variables. Raises the same."""
        ...

    async def snapshot(self, *, partial: bool) -> MachineState:
        """What it is now, in one act: files and interpreters. Nothing runs meanwhile.

        Args:
            partial: leave out what cannot be kept, and name it, instead of refusing.

        Raises:
            SnapshotRefused: something cannot be kept; it is named, and nothing has changed.
            NotSupported: this backend keeps no states.
        """
        ...

    async def restore(self, state: MachineState) -> tuple[str, ...]:
        """Makes it what it was; the state stays, and can be restored again.

        Returns:
            What is not as it was, one phrase each.

        Raises:
            SnapshotLost: the state is gone, and nothing has changed.
        """
        ...

    async def branch(self, state: MachineState) -> Machine:
        """A further machine that begins as `state`. Raises as `restore`."""
        ...

    async def difference(self, before: MachineState, after: MachineState | None) -> FileDiff:
        """Paths added, changed and removed between two states; None = now. Raises as `restore`."""
        ...

    async def variables(self) -> tuple[str, ...]:
        """Names that Python code has set by now."""
        ...

    async def put_back(self, state: MachineState, paths: Sequence[str]) -> list[str]:
        """Makes single absolute paths what they were; those that are neither in the state nor here now."""
        ...

    async def discard(self, state: MachineState) -> None:
        """Frees what a state holds. Idempotent."""
        ...

    def consumption(self) -> Consumption:
        """What it takes up now, with all that branched from it where they share limits."""
        ...

    async def destroy(self) -> None:
        """Ends it; returns when nothing of it is left. Idempotent."""
        ...


FileDiff = tuple[list[str], list[str], list[str], bool]
"""Absolute paths added, changed, removed; and whether there were more than are named."""


class Backend(Protocol):
    """A way to make sandboxes. An async context manager: leaving it ends every sandbox it made.

    One whose sandboxes hang on a process of ours may have `async lost() -> str`: it returns, with what was last said,
    when that process has ended by itself.
    """

    @property
    def name(self) -> str: ...

    async def probe(self) -> ExecutorCapabilities:
        """What it can do here, measured once per process by making a sandbox and running into its limits.

        Raises:
            BackendUnavailable: it cannot make a sandbox on this machine; the fix is named.
        """
        ...

    async def create(self, spec: SandboxSpec) -> Machine:
        """A sandbox that is ready to work.

        Raises:
            BackendUnavailable: it cannot make a sandbox on this machine; the fix is named.
            SandboxStartFailed: this one did not come up.
            InvalidArgument: the spec asks for what cannot be.
            PackageNotFound, PackagesUnavailable, DiskFull: its packages are not to be had.
            NotSupported: this backend cannot do what it asks for.
        """
        ...

    def toolchain(self, language: str) -> Toolchain:
        """What runs or compiles `language` in its sandboxes; looked for once per process.

        Raises:
            ToolchainMissing: there is none; the message says what to install.
        """
        ...

    async def close(self) -> None:
        """Ends every sandbox it made and what it needs for that. Idempotent."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
