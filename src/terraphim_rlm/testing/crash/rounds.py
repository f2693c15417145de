"""Rounds of a run that is killed and taken up: what is done in each, and what must hold after it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.engine.following import digest
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.service.runs import list_runs
from terraphim_rlm.store.database import FILE_NAME
from terraphim_rlm.store.verify import verify
from terraphim_rlm.testing.crash import program
from terraphim_rlm.testing.crash.victim import MODEL, OF_MODEL, STATES, Order, command

_MOST_TRIES = 6
"""Of one round: a moment may not be come to when the work took another turn."""


@dataclass(slots=True)
class Outcome:
    """How the rounds went."""

    kills: Counter[str] = field(default_factory=Counter)
    """By state."""
    rounds: int = 0
    missed: int = 0
    """Kills that found nothing: the run was not durable yet, or had ended."""
    requests: int = 0
    again: int = 0
    """Requests that were made twice: none was settled when its process was killed."""
    acknowledged: int = 0
    problems: list[str] = field(default_factory=list)


class Rounds:
    """A context manager: the model's process lives while it lasts.

    Args:
        seed: of each round's input, moment and delays, together with the round's number.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.outcome = Outcome()
        self._counts: Mapping[str, int] = {}

    def __enter__(self) -> Rounds:
        self._folder = tempfile.TemporaryDirectory(prefix="trlm-crash-")
        self._root = Path(self._folder.name)
        self._log = self._root / "requests.jsonl"
        argv = [*_python("model"), str(self._log)]
        self._model = process.start(argv, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._model.stdout is not None
        self._base = self._model.stdout.readline().decode().strip().removesuffix("/v1")
        with _data_folder(self._root / "undisturbed") as folder:
            chance = random.Random(self._seed)  # noqa: S311 -- reproducible, not secret
            self._counts = _Round("undisturbed", folder, chance, self._base, self._log).counted()
        return self

    def __exit__(self, *error: object) -> None:
        with self._model as model:
            assert model.stdin is not None
            model.stdin.close()
        self._folder.cleanup()

    def play(self, number: int, state: str) -> None:
        """One round: killed in `state`, taken up, judged."""
        for attempt in range(_MOST_TRIES):
            chance = random.Random(f"{self._seed} {number} {attempt}")  # noqa: S311 -- reproducible, not secret
            with _data_folder(self._root / f"{number}-{attempt}") as folder:
                one = _Round(f"{number}.{attempt}", folder, chance, self._base, self._log)
                if one.killed(state, self._counts):
                    self.outcome.kills[state] += 1
                    self.outcome.rounds += 1
                    found = one.judged(self.outcome)
                    self.outcome.problems += [f"round {number} ({state}): {each}" for each in found]
                    return
            self.outcome.missed += 1
        self.outcome.problems.append(f"round {number} ({state}): it was never caught there")


class _Round:
    """One run, from its first process to its answer."""

    def __init__(self, name: str, folder: Path, chance: random.Random, base: str, log: Path) -> None:
        self._name, self._folder, self._chance, self._base, self._log = name, folder, chance, base, log
        self._text = folder / "input.txt"
        self._text.write_text(program.text(chance))
        self._words = self._text.read_text().split()
        self._run = ""
        self._settled: set[str] = set()
        self._again: set[str] = set()
        self._acknowledged: set[str] = set()
        self._problems: list[str] = []

    def counted(self) -> Mapping[str, int]:
        """How often an undisturbed run comes to each state, and one that is taken up near its end."""
        said = json.loads(self._victim(self._order("")) or "{}")
        if said.get("value") != self._expected():
            raise RuntimeError(f"An undisturbed run came to {said.get('value')!r:.300}.")
        turns = sum(key.startswith("turn ") for key in self._requests())
        return {**said["counts"], "streaming": turns, "call": len(self._requests()) - turns}

    def killed(self, state: str, counts: Mapping[str, int]) -> bool:
        """Kills it in that state; False when there is no such moment, or no run to take up afterwards."""
        first = self._chance.choice(("cell", "streaming", "parse")) if state == "resume" else state
        nth = self._chance.randint(1, counts[first])
        if first != state:
            nth = max(nth, counts[first] - 3)  # late enough for something to be taken up
        if self._victim(self._order(first, nth)) is not None:
            return False
        runs = list_runs()
        if not runs or not self._look(f"killed in {first}"):
            return False
        if state != "resume":
            return True
        again = self._order(state, self._chance.randint(1, 4))
        return self._victim(again) is None and self._look("killed while it was taken up")

    def _order(self, state: str, nth: int = 0) -> Order:
        own = state if state in OF_MODEL else "none"
        return Order(
            f"{self._base}/{self._name}/PID/{own}/{nth}/v1",
            str(self._folder / "acknowledged"),
            str(self._text),
            "" if state in OF_MODEL else state,
            nth,
            self._chance.uniform(0.0, 0.02),
            self._run,
        )

    def _victim(self, order: Order) -> str | None:
        """What it said at its end; None when it was killed."""
        child = process.start(command(order), env=dict(os.environ), stdout=subprocess.PIPE)
        said, _ = child.communicate()
        if child.returncode == -signal.SIGKILL:
            return None
        if child.returncode:
            raise RuntimeError(f"A victim failed by itself: {child.returncode}.")
        return said.decode()

    def _look(self, when: str) -> bool:
        """Notes what a killed process has left; False when its run has ended."""
        (summary,) = list_runs()
        self._run = summary.id
        self._check_acknowledged(when)
        self._check_spent(when, summary.spent_tokens, summary.spent_microdollars)
        self._settled |= self._settled_keys()
        return summary.status == "interrupted"

    def judged(self, outcome: Outcome) -> list[str]:
        """Takes the run up to its end; what does not hold, one sentence each."""
        before = self._requests()
        answer = asyncio.run(self._resumed())
        after = self._requests()
        repeated = [key for key in after[len(before) :] if key in self._settled]
        if repeated:
            self._problems.append(f"settled and asked again: {repeated[:3]}")
        if answer.value != self._expected():
            self._problems.append(f"another answer: {answer.value!r:.300}")
        if (answer.termination, answer.partial) != ("final_var", False):
            self._problems.append(f"it ended as {answer.termination}")
        self._check_acknowledged("at its end")
        self._check_spent("at its end", answer.usage.tokens, answer.usage.microdollars)
        self._check_history()
        outcome.requests += len(after)
        outcome.again += len(after) - len(set(after))
        outcome.acknowledged += len(self._acknowledged)
        return self._problems

    async def _resumed(self) -> Any:
        model = open_model(MODEL, base_url=f"{self._base}/{self._name}/0/none/0/v1")
        try:
            return await Rlm(model, route="loop").resume(self._run)
        finally:
            await model.aclose()

    def _expected(self) -> list[Any]:
        words = self._words
        deep = [f"<deep {words[0]}>", *(f"<deeper {word}>" for word in words[:5])]
        many = [f"<item {n} {words[n]}>" for n in range(12)]
        parts = [f"<part {n}>" for n in range(3)]
        side = [f"<side {word}>" for word in words[:4]]
        return [len(words), f"<alpha {words[0]}>", many, deep, parts, side, "42\n"]

    def _requests(self) -> list[str]:
        """The keys of all requests of this round, as the model's process counted them."""
        return [each["key"] for each in self._billed()]

    def _billed(self) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self._log.read_text("utf-8").splitlines())
        return [each for each in lines if each["round"] == self._name]

    def _check_spent(self, when: str, tokens: int, microdollars: int) -> None:
        from terraphim_rlm.core.values import Usage
        from terraphim_rlm.llm.prices import cost

        bills = [each["usage"] for each in self._billed()]
        billed = [
            Usage(tokens_in=each["prompt_tokens"], tokens_out=each["completion_tokens"]) for each in bills
        ]
        money = sum(cost(MODEL, each) or 0 for each in billed)
        if tokens < sum(each.tokens for each in billed) or microdollars < money:
            self._problems.append(
                f"{when} the ledger had {tokens} tokens, {microdollars} microdollars: too little"
            )

    def _check_acknowledged(self, when: str) -> None:
        """Every event that was ever acknowledged is there."""
        noted = self._folder / "acknowledged"
        if noted.exists():
            self._acknowledged |= set(noted.read_text().split())
        with sqlite3.connect(data_dir() / FILE_NAME) as db:
            there = {name for (name,) in db.execute("SELECT id FROM events")}
        db.close()
        if lost := self._acknowledged - there:
            self._problems.append(f"{when} {len(lost)} acknowledged events were lost")

    def _check_history(self) -> None:
        """One history without gap or repetition, and a journal without a fault."""
        events = self._events()
        if [each["seq"] for each in events] != list(range(1, len(events) + 1)):
            self._problems.append("its events have a gap")
        for kind, name in (
            ("cell.finished", "execution_id"),
            ("call.finished", "call_id"),
            ("turn.reply", "turn"),
        ):
            told = Counter((each["node"], each["data"].get(name)) for each in events if each["type"] == kind)
            if told and max(told.values()) > 1:
                self._problems.append(f"{kind} was told twice: {told.most_common(1)}")
        if list_runs()[0].status != "done":
            self._problems.append("it is not done")
        self._problems += verify(data_dir() / FILE_NAME).problems

    def _events(self) -> list[dict[str, Any]]:
        from terraphim_rlm.service.recall import recall

        return [dict(each) for each in recall(self._run).events]

    def _settled_keys(self) -> set[str]:
        """What the journal knows the answer of, by the keys that the model's process counts."""
        asked = {digest(op, args): keys for op, args, keys in program.prompts(self._words)}
        calls: dict[str, list[str]] = {}
        questions: dict[str, str] = {}
        found: set[str] = set()
        for event in self._events():
            data = event["data"]
            if event["type"] == "node.started":
                questions[event["node"]] = data["question"]
            elif event["type"] == "call.started":
                calls[data["call_id"]] = asked.get(data["asked"], [])
            elif event["type"] == "turn.reply":
                found.add(f"turn {data['turn']} of {questions[event['node']]}")
            elif event["type"] == "call.item" and calls.get(data["call_id"]):
                found.add(calls[data["call_id"]][data["item"]])
            elif event["type"] == "call.finished" and "value" in data:
                found |= set(calls.get(data["call_id"], ()))
        return found


def play(rounds: int, seed: int, told: Callable[[Outcome], None] = lambda _: None) -> Outcome:
    """So many rounds, each state in its turn; fewer when Ctrl-C ends them.

    Args:
        told: called with the outcome so far after each.
    """
    with Rounds(seed) as playing:
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(rounds):
                playing.play(number, STATES[number % len(STATES)])
                told(playing.outcome)
        return playing.outcome


def _python(name: str) -> list[str]:
    return [sys.executable, "-m", f"{__spec__.parent}.{name}"]


@contextmanager
def _data_folder(folder: Path) -> Iterator[Path]:
    """A data folder of its own, for this process and those that it starts."""
    folder.mkdir()
    before = {name: os.environ.get(name) for name in ("TRLM_DATA", "TRLM_CONFIG")}
    os.environ.update(TRLM_DATA=str(folder / "data"), TRLM_CONFIG=str(folder / "none"))
    try:
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
