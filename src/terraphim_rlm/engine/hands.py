"""What a node does with its sandbox: runs the commands of a reply in order, up to the first failure."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from terraphim_rlm.core.errors import NotSupported, SandboxLost
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import ExecutionResult, Termination, Verdict
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.broker import Broker
from terraphim_rlm.engine.checks import is_not_found
from terraphim_rlm.engine.concepts import told_of
from terraphim_rlm.engine.following import Past, Recorded, Redone
from terraphim_rlm.engine.gate import Entry, Gate
from terraphim_rlm.engine.keeping import keep_or_go_back
from terraphim_rlm.engine.neutral import neutralise
from terraphim_rlm.engine.observe import INVENTORY, Showing, observation
from terraphim_rlm.engine.redoing import Answering, Redo
from terraphim_rlm.engine.replies import (
    Code,
    Command,
    FinalVar,
    Rollback,
    Shell,
    Snapshot,
)
from terraphim_rlm.engine.replies import Final as FinalWord
from terraphim_rlm.engine.replies.commands import Language
from terraphim_rlm.engine.replies.one_word import as_code
from terraphim_rlm.engine.speculation import Ahead, Speculation
from terraphim_rlm.engine.spill import spill
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.guard.judging import blocked
from terraphim_rlm.guest.values import TOO_LARGE
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.link.calls import CallHandler
from terraphim_rlm.sandbox.link.execution import Final, final_of
from terraphim_rlm.sandbox.link.streams import OnOutput, StreamName
from terraphim_rlm.sandbox.sandbox import Sandbox

CELL_SECONDS = 30.0
"""Of a cell's or a shell command's own work; waiting for sub-calls does not count."""
_MOST_PIECES = 256
"""Pieces of a cell's output that are told as they come; the whole is told when it has ended."""

_Work = Callable[[str, OnOutput | None, CallHandler], Awaitable[ExecutionResult]]
"""Runs a cell."""


@dataclass(frozen=True, slots=True)
class Finish:
    """An answer as it was given."""

    value: Any
    text: str
    termination: Termination
    spans: tuple[tuple[str, int, int], ...] = ()
    written: bool = False
    """True for words of the reply, False for values of the interpreter."""
    worded: bool = False
    """True when a word of the reply gave it, and no cell."""


@dataclass(slots=True)
class Done:
    """What the commands of one reply did."""

    observations: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    finish: Finish | None = None
    printed: int = 0
    """Characters on their standard outputs."""
    ran: bool = False


class Hands:
    """The tools of one node."""

    def __init__(
        self,
        sandbox: Sandbox,
        interpreter: Interpreter,
        broker: Broker,
        account: Account,
        gate: Gate,
        teller: Teller,
        showing: Showing,
    ) -> None:
        self._sandbox = sandbox
        self._interpreter = interpreter
        self._cwd = interpreter.cwd
        self._broker = broker
        self._handler: Answering = broker
        self._account = account
        self._gate = gate
        self._tell = teller
        self._count = 0
        self.showing = showing
        self.shown = ""
        """The last thing that a cell printed."""

    @property
    def bounds(self) -> str:
        """What the model has to know of how long a cell and a sub-prompt may be."""
        bounds = prompts.bounds(CELL_SECONDS, self._broker.prompt_characters)
        return prompts.network(self._sandbox.resources.network) + told_of(self._broker.knowledge) + bounds

    async def do(self, turn: int, commands: Sequence[Command]) -> Done:
        """Runs commands until one fails or one finishes."""
        done = Done()
        for command in commands:
            if isinstance(command, FinalWord):
                done.finish = replace(await self._final(command.text), worded=True)
            elif isinstance(command, FinalVar):
                await self._final_var(command.name, done)
            elif isinstance(command, (Code, Shell)):
                result = await self._cell(turn, command, done)
                if result.status != "ok" and done.finish is None:
                    break
            elif isinstance(command, (Snapshot, Rollback)):
                if not await self._state(command, done):
                    break
            else:
                await self._code(turn, as_code(command), done, judged=False)
            if done.finish is not None:
                break
        return done

    def speculation(self) -> Speculation:
        """Begins what a reply will ask for while it streams; its calls are then there for the cells."""
        guard = self._gate.early()
        ahead = self._broker.ahead = Ahead()

        async def prepare(code: str) -> bool:
            allowed = await guard.ahead(code, "python")
            if allowed:
                await self._interpreter.start()
            return allowed

        return Speculation(self._broker, ahead, prepare, guard.forget, self._tell)

    async def _state(self, command: Snapshot | Rollback, done: Done) -> bool:
        """Keeps or brings back the sandbox's state; False when that could not be done."""
        self._account.check_time()
        ok, told = await keep_or_go_back(command, self._sandbox, self._tell)
        done.observations.append(told)
        done.sources.append(f"{command.kind} {command.name}")
        done.outputs.append(told)
        return ok

    async def run_cell(self, code: str) -> ExecutionResult:
        """Runs one cell that the host wrote, which no guard is asked about."""
        return await self._code(1, code, Done(), judged=False)

    async def again(self, past: Past) -> Redone:
        """Does what an earlier run did to its sandbox, with the answers that its sub-calls had."""
        own, self._handler = self._handler, Recorded(past.calls, self._tell)
        ran = left_out = other = 0
        try:
            for step in past.steps:
                if step.kind != "cell":
                    command = (
                        Snapshot(step.text, 0, 0) if step.kind == "snapshot" else Rollback(step.text, 0, 0)
                    )
                    other += not await self._state(command, Done())
                elif step.status not in ("ok", "exit_nonzero"):
                    left_out += 1
                else:
                    language = cast("Language", step.language)
                    result = await self._cell(0, Code(language, step.text, 0, 0), Done())
                    ran += 1
                    other += (result.status, result.stdout) != (step.status, step.stdout)
        finally:
            self._handler = own
        self.shown = ""
        return Redone(ran, left_out, other)

    async def variables(self) -> str:
        """Names, types and sizes of what the cells have set, one a line."""
        shown, self.shown = self.shown, ""
        result = await self.run_cell(INVENTORY)
        self.shown = shown
        if result.status != "ok":
            return f"  (they could not be listed: {result.status})"
        return neutralise(result.stdout.rstrip("\n"), self.showing.limit, self.showing.mark)

    async def fetch(self, name: str) -> Any:
        """A variable's value as JSON; None when it is not there or is not JSON."""
        return (await self._interpreter.fetch(name)).get("value")

    async def _cell(self, turn: int, command: Code | Shell, done: Done) -> ExecutionResult:
        if isinstance(command, Shell):
            return await self._shell(turn, command.command, done)
        if command.language == "bash":
            return await self._shell(turn, command.code, done)
        if command.language != "python":
            return await self._elsewhere(turn, command, done)
        return await self._code(turn, command.code, done)

    async def _elsewhere(self, turn: int, command: Code, done: Done) -> ExecutionResult:
        """A block in a language that has no sub-calls."""

        async def work(code: str, on_output: OnOutput | None, handler: CallHandler) -> ExecutionResult:
            try:
                return await self._sandbox.run(
                    code, command.language, timeout=self._seconds(), on_output=on_output
                )
            except NotSupported as error:
                return ExecutionResult(
                    "",
                    "backend_unavailable",
                    stderr=error.message,
                    backend=self._sandbox.capabilities.backend,
                )

        result = await self._worked(turn, command, work, done)
        self._account.check_time()
        return result

    async def _code(self, turn: int, code: str, done: Done, *, judged: bool = True) -> ExecutionResult:
        final: Final | None = None

        async def work(code: str, on_output: OnOutput | None, handler: CallHandler) -> ExecutionResult:
            nonlocal final
            left, refused = self._account.remaining_seconds(), self._sandbox.refused
            end = await self._interpreter.execute(
                code,
                timeout=CELL_SECONDS,
                cap=None if math.isinf(left) else max(left, 0.01),
                handler=handler,
                on_output=on_output,
            )
            final = end.final
            return self._sandbox.result(end, refused=refused)

        result = await self._worked(turn, Code("python", code, 0, 0), work, done, judged=judged)
        if final is not None and result.status == "ok":
            done.finish = _given(final)
        elif result.status != "blocked":
            self._account.check_time()
        return result

    async def _shell(self, turn: int, command: str, done: Done) -> ExecutionResult:
        async def work(code: str, on_output: OnOutput | None, handler: CallHandler) -> ExecutionResult:
            await self._interpreter.start()  # whose folder it is: made with it
            return await self._sandbox.sh(code, timeout=self._seconds(), cwd=self._cwd, on_output=on_output)

        result = await self._worked(turn, Code("bash", command, 0, 0), work, done)
        self._account.check_time()
        return result

    async def _worked(
        self, turn: int, command: Code, work: _Work, done: Done, *, judged: bool = True
    ) -> ExecutionResult:
        """One cell from its beginning to what is shown of it. A cell that is on record is shown as it was then.

        Args:
            judged: False for code that the host wrote.
        """
        self._account.check_time()
        self._count += 1
        number = f"{self._tell.node}/{self._count}"
        redo = Redo(self._tell, number, self._tell.known.cells.get(self._count), self._handler)
        entry = self._gate.entry(number, command, redo) if judged else Entry(command.code)
        await entry.change()
        redo.tell("cell.started", turn=turn, execution_id=number, language=command.language, code=entry.code)
        result = await self._left_out(redo)
        if result is not None:
            entry.recall(result)
        else:
            result = self._blocked(entry.code, await entry.verdict())
        if result is None:
            result = await work(entry.code, self._output(number, redo.tell), redo.handler)
            result = replace(result, verdict=entry.found)
        result = await self._gate.leaving(entry.code, command.language, result)
        result, told = redo.compared(result)
        done.observations += told
        return await self._end(number, entry.code, result, done, redo.tell)

    async def _left_out(self, redo: Redo) -> ExecutionResult | None:
        """How a cell ended that is not done again; what it had cost the interpreter, it costs now."""
        result = redo.left_out
        if result is not None and result.state_after == "lost":
            await self._interpreter.restart()
        return result

    async def _end(
        self, number: str, source: str, result: ExecutionResult, done: Done, tell: Teller
    ) -> ExecutionResult:
        result, paging = await spill(
            self._count, replace(result, execution_id=number), self._sandbox, self._interpreter, self.showing
        )
        tell("cell.finished", **_event(result))
        done.ran = True
        done.sources.append(source)
        done.printed += len(result.stdout.strip())
        done.outputs.append(
            f"{result.status}\n{result.stdout[:20_000]}\n{result.error and result.error.message}"
        )
        done.observations.append(observation(self._count, result, self.showing, paging))
        if result.stdout.strip():
            self.shown = neutralise(result.stdout.strip(), 4_000)
        return result

    def _output(self, number: str, tell: Teller) -> OnOutput | None:
        if self._gate.holds_output:
            return None
        left = _MOST_PIECES

        def told(stream: StreamName, text: str) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                tell("cell.output", execution_id=number, stream=stream, text=text[:4_000])

        return told

    def _blocked(self, code: str, verdict: Verdict | None) -> ExecutionResult | None:
        """None when the code may run, else the result that says why not."""
        result = blocked(code, verdict, self._sandbox.capabilities.backend)
        return result and replace(result, stderr=result.stderr + self._gate.advice(verdict))

    async def _final(self, text: str) -> Finish:
        """A written answer, with what the cells cited. One that only names a variable means its value."""
        written = _written(text)
        if not self._count:
            return written
        try:
            found = await self._interpreter.fetch(text if text.isidentifier() else "answer")
        except SandboxLost:
            return written
        known = final_of({**found, "source": "FINAL_VAR"})
        if text.isidentifier() and found.get("found") is True and found.get("cut") is not True:
            return _given(known)
        return replace(written, spans=known.evidence)

    async def _final_var(self, name: str, done: Done) -> None:
        try:
            found = await self._interpreter.fetch(name)
        except SandboxLost as error:
            if not self._sandbox.is_open:
                raise
            done.observations.append(f"{error.message} All variables are lost except `context`.")
            return
        if found.get("found") is not True:
            near = ", ".join(str(item) for item in found.get("near") or [])
            hint = f" Did you mean {near}?" if near else ""
            done.observations.append(f"There is no variable {name}.{hint} Set it in a cell first.")
            return
        done.ran = True
        if found.get("cut") is True:
            done.observations.append(f"FINAL_VAR: {TOO_LARGE}.")
            return
        done.finish = replace(_given(final_of({**found, "source": "FINAL_VAR"})), worded=True)

    async def draft(self) -> Finish | None:
        """What the model has put into `answer["content"]` so far."""
        try:
            found = await self._interpreter.fetch("answer")
        except SandboxLost:
            return None
        value = found.get("value")
        content = value.get("content") if isinstance(value, dict) else None
        return None if content is None else Finish(content, _as_text(content), "final")

    def _seconds(self) -> float:
        left = self._account.remaining_seconds()
        return CELL_SECONDS if math.isinf(left) else max(min(CELL_SECONDS, left), 0.01)


def _written(text: str) -> Finish:
    if is_not_found(text):
        return Finish(None, "not found", "not_found")
    return Finish(text, text, "final", written=True)


def _given(final: Final) -> Finish:
    text = _as_text(final.value) if final.is_json else final.repr
    if is_not_found(text):
        return Finish(None, "not found", "not_found", final.evidence)
    kind: Termination = "final_var" if final.source == "FINAL_VAR" else "final"
    return Finish(final.value if final.is_json else None, text, kind, final.evidence)


def _as_text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _event(result: ExecutionResult) -> dict[str, Any]:
    fields = result.to_json()
    del fields["schema_version"]
    return fields
