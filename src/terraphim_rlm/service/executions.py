"""One execution in a session, from its durable intent to its durable record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from terraphim_rlm.core.errors import BackendError, SandboxBusy
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import ExecutionResult, Status, to_json
from terraphim_rlm.guard.judging import Guard, blocked
from terraphim_rlm.sandbox.checks import Options, request
from terraphim_rlm.sandbox.languages.table import SHELL, SPOKEN, language
from terraphim_rlm.sandbox.link.streams import OnOutput, StreamName
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.store.journal import Journal

_MOST_KEPT = 1 << 20
"""Characters of each stream that the record of a stopped execution keeps."""
_STOPPED = "It was stopped on request. If it did not yield, the next execution says what was lost."
_SESSION_ENDED = "The session ended while this ran."


@dataclass(frozen=True, slots=True)
class Execution:
    """One piece of code to run in a session."""

    code: str
    language: str = "python"
    """One of `languages.SPOKEN`, or another name of one; `sh` is a shell from start to end."""
    timeout: float | None = None
    """Seconds; None = the language's own time-out."""
    stdin: str | bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    wait: float | None = None
    """Seconds that it may stand in the session's queue; None = as long as it takes, 0 = refuse when busy."""

    def options(self, on_output: OnOutput) -> Options:
        """As `Sandbox.run` takes them."""
        options = Options(stdin=self.stdin, env=self.env, cwd=self.cwd, wait=self.wait, on_output=on_output)
        if self.timeout is not None:
            options["timeout"] = self.timeout
        return options


def check(execution: Execution) -> None:
    """Raises:
    InvalidArgument: it asks for what cannot be; nothing is recorded of it.
    """
    request(execution.code, language(execution.language, SPOKEN), execution.options(lambda *_: None))


class Executions:
    """Runs code in one session's sandbox and writes it down.

    Args:
        log: the session's events; the journal is among its sinks.
        guard: asked about each piece of code before it is dispatched; closed by its owner.
    """

    def __init__(self, box: Sandbox, journal: Journal, log: EventLog, guard: Guard) -> None:
        self._box = box
        self._journal = journal
        self._log = log
        self._guard = guard
        self._runs: dict[str, asyncio.Task[ExecutionResult]] = {}
        self._written: set[asyncio.Task[ExecutionResult]] = set()
        self._ending = False

    async def execute(
        self,
        execution: Execution,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[str], None] = lambda _: None,
    ) -> ExecutionResult:
        """Runs it. Its intent is durable before it is dispatched, its record before the result is returned.

        When the caller is cancelled the code is stopped, and what became of it is written down all the same.

        Args:
            on_output: gets (`stdout` or `stderr`, text) as it comes.
            on_start: gets the execution's id, by which `stop` stops it.

        Raises:
            InvalidArgument: it asks for what cannot be; nothing is recorded of it.
            SandboxBusy: it waited as long as it may, and has not run.
            SandboxLost, NotSupported: the sandbox has ended, or cannot run this language.
            StoreError: it could not be written down.
        """
        check(execution)
        number = new_id("exec")
        said = _Said(on_output)
        asked = {"language": execution.language, "code": execution.code, "timeout": execution.timeout}
        self._log.emit("execution.started", self._log.run, None, execution_id=number, **asked)
        try:
            await self._journal.commit()
        except BaseException:  # what a full disk holds back is written later
            unrun = said.result(number, "cancelled", "It was not run: its start could not be written down.")
            self._log.emit("execution.finished", self._log.run, None, **_kept(unrun))
            raise
        on_start(number)
        written = asyncio.ensure_future(self._run(number, execution, said))
        self._written.add(written)
        written.add_done_callback(self._forget)
        try:
            return await asyncio.shield(written)
        except asyncio.CancelledError:
            self.stop(number)
            await asyncio.wait({written})
            raise

    async def _run(self, number: str, execution: Execution, said: _Said) -> ExecutionResult:
        """Runs it to its end, writes that down whatever it is, and raises what `Sandbox.run` raised."""
        task = self._runs[number] = asyncio.ensure_future(self._guarded(number, execution, said))
        await asyncio.wait({task})
        del self._runs[number]
        failure = None if task.cancelled() else task.exception()
        if task.cancelled():
            result = said.result(number, "cancelled", _STOPPED)
        elif failure is not None:
            result = said.result(number, _status(failure), f"{type(failure).__name__}: {failure}")
        else:
            result = replace(task.result(), execution_id=number)
        if self._ending and result.status != "ok":
            notes = (*result.notes, _SESSION_ENDED)
            result, failure = replace(result, status="interrupted", state_after="lost", notes=notes), None
        self._log.emit("execution.finished", self._log.run, None, **_kept(result))
        await self._journal.commit()
        if failure is not None:
            raise failure
        return result

    async def _guarded(self, number: str, execution: Execution, said: _Said) -> ExecutionResult:
        """Runs it if the guard lets it."""
        tongue = language(execution.language, SPOKEN)
        verdict = await self._guard.verdict(execution.code, tongue.name)
        if verdict.findings or verdict.decision != "allow":
            self._log.emit("verdict", self._log.run, None, execution_id=number, **to_json(verdict))
        refused = blocked(execution.code, verdict, self._box.capabilities.backend)
        if refused is not None:
            return refused
        options = execution.options(said)
        if tongue is SHELL:
            result = await self._box.sh(execution.code, **options)
        else:
            result = await self._box.run(execution.code, execution.language, **options)
        return replace(result, verdict=verdict)

    def _forget(self, written: asyncio.Task[ExecutionResult]) -> None:
        self._written.discard(written)
        if not written.cancelled():
            written.exception()  # seen: whoever asked may have left

    def stop(self, execution: str) -> bool:
        """Stops an execution; False when there is none of this id in flight."""
        task = self._runs.get(execution)
        if task is None:
            return False
        task.cancel()
        return True

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of those in flight."""
        return tuple(self._runs)

    def end(self) -> None:
        """From now on, what fails does so because the session ends."""
        self._ending = True

    async def settled(self) -> None:
        """Waits until every execution in flight is written down."""
        if self._written:
            await asyncio.wait(set(self._written))


class _Said:
    """What an execution has said so far, for the record of one that gives no result."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self._on_output = on_output
        self._kept: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._room = {"stdout": _MOST_KEPT, "stderr": _MOST_KEPT}

    def __call__(self, stream: StreamName, text: str) -> None:
        if (room := self._room[stream]) > 0:
            self._kept[stream].append(text[:room])
            self._room[stream] = room - len(text)
        if self._on_output is not None:
            self._on_output(stream, text)

    def result(self, number: str, status: Status, note: str) -> ExecutionResult:
        return ExecutionResult(
            execution_id=number,
            status=status,
            stdout="".join(self._kept["stdout"]),
            stderr="".join(self._kept["stderr"]),
            truncated=min(self._room.values()) < 0,
            state_after="unknown",
            notes=(note,),
        )


def _status(failure: BaseException) -> Status:
    """The status of an execution that gave no result, because something of ours or the machine's failed."""
    if isinstance(failure, SandboxBusy):
        return "cancelled"
    return "backend_unavailable" if isinstance(failure, BackendError) else "internal_error"


def _kept(result: ExecutionResult) -> dict[str, Any]:
    """A result as the journal keeps it."""
    fields: dict[str, Any] = to_json(result)
    del fields["stdout_bytes"]
    return fields
