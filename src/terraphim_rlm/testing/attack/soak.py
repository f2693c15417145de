"""The soak: thousands of mixed executions by a seeded plan (K29), launches killed while they set up (K30), and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, RlmError
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.keeper import orphans
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.attack import conditions, kills, soak_gauges
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.soak_deeds import (
    DEEDS,
    Deed,
    Worker,
    Wrong,
    bash,
    compute,
    count,
    javascript,
    shell,
)
from terraphim_rlm.testing.attack.soak_gauges import Sample

Emit = Callable[[Mapping[str, Any]], None]
EXECUTIONS = 5_000
LAUNCHES = 100
WORKERS = 3
"""Plans that go on at once. The first one has a session that lives as long as the soak."""
_ROUNDS = 50
_LEAST_A_ROUND = 20
_MOST_A_ROUND = 250
_WARM_UP = 0.2
"""Share of the rounds before the first sample that counts; never more than `_MOST_WARM_UP` rounds."""
_MOST_WARM_UP = 20
_LONG = 10.0
"""Minutes from which on it takes Go in."""
_HANG = 120.0
_SETTLE = 5.0
_MOST_NAMED = 20
RESOURCES = Resources(memory_mb=256, cpus=1.0, pids=64, disk_mb=64, output_bytes=1 << 20)


class Soak:
    """One backend under a long load. An async context manager; leaving it ends all sandboxes."""

    def __init__(self, lab: Lab, backend: Backend, seed: int, deeds: Mapping[str, Deed]) -> None:
        self._lab = lab
        self._backend = backend
        self._seed = seed
        self._deeds = deeds
        self.mark = secrets.token_hex(8)
        self._spec = SandboxSpec(RESOURCES, {conditions.MARK: self.mark})
        self._stack = AsyncExitStack()
        self.workers: list[Worker] = []
        self.samples: list[Sample] = []
        self.executions = 0
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.not_run: dict[str, str] = {}

    async def __aenter__(self) -> Soak:
        languages = (await self._backend.probe()).languages
        lacking = {deed.language for deed in self._deeds.values()} - set(languages)
        self.not_run = {f"deeds of {each}": "nothing here runs it" for each in sorted(lacking)}
        self._deeds = {name: deed for name, deed in self._deeds.items() if deed.language not in lacking}
        for number in range(WORKERS):
            chance = random.Random(f"{self._seed}.{number}")  # noqa: S311 -- reproducible, not secret
            worker = Worker(self._backend, self._spec, chance, Sandbox(self._backend, self._spec))
            self._stack.push_async_callback(worker.close)
            self.workers.append(worker)
        await self.workers[0].open()
        await self._settled_session()
        for name in ("rust", "go"):  # compiled once, which is no matter of a soak
            if name in self._deeds:
                await self._deeds[name].does(self.workers[0])
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def round(self, size: int) -> None:
        """One stretch of the plan, by all workers at once."""
        async with asyncio.TaskGroup() as group:
            for number, worker in enumerate(self.workers):
                share = size // WORKERS + (number < size % WORKERS)
                group.create_task(self._stretch(worker, share, lives=number == 0))
        self.executions += size

    async def _stretch(self, worker: Worker, share: int, *, lives: bool) -> None:
        deeds = [(name, deed) for name, deed in self._deeds.items() if not (lives and deed.ends_sandbox)]
        plan = worker.chance.choices(deeds, [deed.weight for _name, deed in deeds], k=share)
        if not lives:
            await worker.open()
        for name, deed in plan:
            await self._do(worker, name, deed)
        if not lives:
            await worker.close()

    async def _do(self, worker: Worker, name: str, deed: Deed) -> None:
        self.done[name] += 1
        try:
            async with asyncio.timeout(_HANG):
                await deed.does(worker)
        except TimeoutError:
            self._note(f"{name}: not over after {_HANG:.0f} s")
        except Wrong as error:
            self._note(f"{name}: {error}")
        except RlmError as error:
            self._note(f"{name}: {type(error).__name__}: {error.message}")
        else:
            return
        with contextlib.suppress(RlmError):  # what comes next must not suffer for it
            await worker.close()
        await worker.open()

    def _note(self, what: str) -> None:
        self.wrong.append(what)

    async def measure(self) -> None:
        """One sample, when what ends by itself has ended: two samples are of the same state, or say what is not."""
        await self._settled_session()
        deadline = time.monotonic() + _SETTLE
        while True:
            now = soak_gauges.sample(self.executions, self._lab, _keeper())
            if not self.samples or time.monotonic() > deadline or not _more(now, self.samples[0]):
                self.samples.append(now)
                return
            await asyncio.sleep(0.05)

    async def _settled_session(self) -> None:
        """Every interpreter of the living session stands, and so does what keeps its snapshots."""
        worker = self.workers[0]
        for deed in (compute, count, shell, bash, javascript):
            if deed.__name__ in self._deeds or deed is compute:
                await deed(worker)
        await worker.box.forget(await worker.box.snapshot(partial=True))


def _keeper() -> int:
    """Pid of the keeper of this process.

    Raises:
        InvalidArgument: this backend has none.
    """
    for pid in orphans.children():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"keeper/start.py" in file.read():
                return pid
    raise InvalidArgument("A soak measures a keeper, and this backend has none.")


def _more(now: Sample, first: Sample) -> bool:
    return any(number > first.counts[name] for name, number in now.counts.items())


async def soak(
    backend: str,
    emit: Emit,
    *,
    executions: int | None = None,
    minutes: float | None = None,
    seed: int = 1,
    deeds: Mapping[str, Deed] = DEEDS,
    launches: int = LAUNCHES,
) -> dict[str, Any]:
    """Runs mixed executions against a backend, and judges what grew and what was left.

    Args:
        backend: name of a sandbox backend.
        emit: gets each sample: executions so far, seconds, memory in kB, counts.
        executions: how many; each is one deed of the table, some of which run several cells. Default 5,000.
        minutes: how long instead; both: whichever is over first.
        seed: the same one makes the same plan.
        deeds: the table.
        launches: how many are killed while they set up, after the executions (K30).

    Returns:
        What `tiers.attack` returns (a case is one thing that is judged), and `seed`, `executions`, `seconds`, `growth`
        (bytes for each execution, of owner and keeper), `deeds`, `statuses`, `wrong`, `samples` and `caught`: whom ->
        how many launches were killed in time.

    Raises:
        InvalidArgument: a number makes no sense, or there is no such backend.
        BackendUnavailable: the backend does not work here.
    """
    total = _total(executions, minutes)
    began = time.monotonic()
    with Lab() as lab:
        before = conditions.baseline(lab)
        async with _open(lab, backend, seed, _fitting(deeds, minutes)) as work:
            before = replace(before, files=conditions.baseline(lab).files)  # what is compiled once is kept
            size = max(_LEAST_A_ROUND, min(_MOST_A_ROUND, (total or 1 << 62) // _ROUNDS))
            warm = min(_MOST_WARM_UP, int(_WARM_UP * total / size)) if total else _MOST_WARM_UP
            rounds = 0
            while not _over(work.executions, total, time.monotonic() - began, minutes):
                await work.round(size if total is None else min(size, total - work.executions))
                rounds += 1
                if rounds > warm:
                    await work.measure()
                    emit(
                        {
                            "seconds": round(time.monotonic() - began, 1),
                            **soak_gauges.told(work.samples[-1:])[0],
                        }
                    )
        left = await conditions.breaches(before, lab, [], work.mark)
    killed = await kills.killed(launches, seed) if launches and backend == "bubblewrap" else None
    found = _summary(backend, work, left, killed)
    return {**found, "seed": seed, "seconds": round(time.monotonic() - began, 1)}


@asynccontextmanager
async def _open(lab: Lab, backend: str, seed: int, deeds: Mapping[str, Deed]) -> AsyncIterator[Soak]:
    async with await choose(backend) as standing, Soak(lab, standing, seed, deeds) as work:
        yield work


def _fitting(deeds: Mapping[str, Deed], minutes: float | None) -> Mapping[str, Deed]:
    """Go compiles its standard library first, which takes as long as a short soak."""
    return (
        deeds
        if (minutes or 0) >= _LONG
        else {name: deed for name, deed in deeds.items() if deed.language != "go"}
    )


def _total(executions: int | None, minutes: float | None) -> int | None:
    for name, value in (("executions", executions), ("minutes", minutes)):
        if value is not None and value <= 0:
            raise InvalidArgument(f"A soak of {value} {name} is none.", fix=f"Give more than 0 {name}.")
    return EXECUTIONS if executions is None and minutes is None else executions


def _over(done: int, total: int | None, seconds: float, minutes: float | None) -> bool:
    return (total is not None and done >= total) or (minutes is not None and seconds >= minutes * 60)


def _summary(backend: str, work: Soak, left: list[str], killed: Mapping[str, Any] | None) -> dict[str, Any]:
    wrong = "; ".join(work.wrong[:_MOST_NAMED])
    checks = {"answers": wrong, **soak_gauges.verdicts(work.samples), "nothing left": "; ".join(left)}
    judged = {f"K29 {name}": why for name, why in checks.items()}
    not_run = dict(work.not_run)
    if not soak_gauges.is_long(work.samples):
        not_run["K29 memory"] = f"growth is judged from {soak_gauges.LEAST_EXECUTIONS:,} executions on"
    if killed is None:
        not_run["K30"] = "no launches were to be killed, or this backend has no moments that are known"
    else:
        judged["K30"] = "; ".join(killed["left"])
    failed = {name: why for name, why in judged.items() if why}
    statuses: Counter[str] = Counter()
    for worker in work.workers:
        statuses.update(worker.ends)
    return {
        "backend": backend,
        "cases": len(judged),
        "passed": len(judged) - len(failed),
        "failed": list(failed),
        "why": failed,
        "not_run": not_run,
        "p0_failed": [name for name in failed if name == "K30"],
        "controls_proven": 0,
        "executions": work.executions,
        "growth": {whose: round(soak_gauges.growth(work.samples, whose), 1) for whose in ("owner", "keeper")},
        "deeds": dict(work.done),
        "statuses": dict(statuses),
        "wrong": len(work.wrong),
        "caught": killed["caught"] if killed else {},
        "samples": soak_gauges.told(work.samples),
    }
