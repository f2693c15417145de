"""The process that is killed: `python -m terraphim_rlm.testing.crash.victim ORDER`, an order as JSON (see `Order`).

Whatever the journal has acknowledged is noted in a file before anybody hears of it, so that nothing can be claimed
afterwards that was not.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from terraphim_rlm.core.events import Event, EventLog
from terraphim_rlm.core.ledger import Hold
from terraphim_rlm.core.values import Answer
from terraphim_rlm.engine import node, redoing
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.store import writer
from terraphim_rlm.store.leases import JournalLeases
from terraphim_rlm.testing.crash.program import QUESTION

STATES = (
    "request", "streaming", "settle", "parse", "cell", "call", "batch", "child", "snapshot", "write", "commit",
    "lease", "answer", "resume",
)  # fmt: skip
"""Where a run is killed: before a turn is asked; while its reply streams; as its cost is booked; between reply and parse;
in a cell; in a sub-call; among the settled ones of a batch; in a child; while a snapshot is taken; in a transaction of the
journal; right after one; as budget is leased; between the answer and its end; and while a killed run is taken up."""
OF_MODEL = ("streaming", "call")
"""States in which the model's process is the one that kills."""
MODEL = "openai/gpt-4o-mini"
"""A name with a price, so that money is counted as well."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a victim is to do."""

    base_url: str
    acknowledged: str
    """File that takes the ids of stored events, one a line."""
    text: str
    """File that is the input."""
    state: str = ""
    """Where it kills itself; empty = nowhere."""
    nth: int = 0
    """The how manieth time that it comes there."""
    later: float = 0.0
    """Seconds after that, in states that last."""
    run: str = ""
    """The run to take up; empty = ask."""


class Fuse:
    """Counts how often each state is come to, and kills this process at the one that is ordered."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.counts: Counter[str] = Counter()

    def hit(self, state: str, *, lasts: bool = False) -> None:
        self.counts[state] += 1
        if state != self._order.state or self.counts[state] != self._order.nth:
            return
        if lasts:
            asyncio.get_running_loop().call_later(self._order.later, _die)
        else:
            _die()

    def __call__(self, event: Event) -> None:
        """States that an event stands for; the journal has been given it already."""
        if event.parent is not None:
            self.hit("child", lasts=event.type == "cell.started")
        if event.type in _OF_EVENTS:
            state, lasts = _OF_EVENTS[event.type]
            self.hit(state, lasts=lasts)


_OF_EVENTS = {
    "turn.request": ("request", True),
    "cell.started": ("cell", True),
    "call.item": ("batch", True),
    "answer": ("answer", False),
    "run.finished": ("answer", False),
}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(fuse: Fuse, acknowledged: int) -> None:
    """Lets this process come past the fuse wherever a state has no event."""
    _before(node, "parse", lambda: fuse.hit("parse"))
    _before(writer, "insert", lambda: fuse.hit("write"))
    _before(JournalLeases, "wait", lambda: fuse.hit("lease"))
    settle, lease, begin, emit = Hold.settle, JournalLeases.lease, redoing.Redo.__init__, EventLog.emit
    write, claim, snapshot = writer.Writer.write, writer.Writer.claim, Sandbox.snapshot

    def emitted(self: EventLog, *arguments: Any, **data: Any) -> Event:
        event = emit(self, *arguments, **data)
        fuse(event)
        return event

    def settled(self: Hold, usage: Any) -> None:
        fuse.hit("settle")
        settle(self, usage)
        fuse.hit("settle")

    def leased(self: JournalLeases, tokens: int, microdollars: int) -> None:
        lease(self, tokens, microdollars)
        fuse.hit("lease")

    def begun(self: redoing.Redo, tell: Any, number: str, known: Any, handler: Any) -> None:
        if known is not None:
            fuse.hit("resume")
        begin(self, tell, number, known, handler)

    def written(self: writer.Writer, events: Any, *, durable: bool) -> None:
        write(self, events, durable=durable)
        os.write(acknowledged, "".join(f"{event.id}\n" for event in events).encode())
        fuse.hit("commit")

    def claimed(self: writer.Writer, event: Event) -> bool:
        taken = claim(self, event)
        os.write(acknowledged, f"{event.id}\n".encode() if taken else b"")
        return taken

    async def kept(self: Sandbox, *arguments: Any, **options: Any) -> Any:
        fuse.hit("snapshot", lasts=True)
        return await snapshot(self, *arguments, **options)

    for owner, name, made in (
        (Hold, "settle", settled), (JournalLeases, "lease", leased), (redoing.Redo, "__init__", begun),
        (writer.Writer, "write", written), (writer.Writer, "claim", claimed), (Sandbox, "snapshot", kept), (EventLog, "emit", emitted),
    ):  # fmt: skip
        setattr(owner, name, made)


def _before(owner: Any, name: str, act: Callable[[], None]) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        act()
        return real(*arguments, **options)

    setattr(owner, name, wrapped)


async def _work(order: Order) -> Answer:
    model = open_model(MODEL, base_url=order.base_url.replace("PID", str(os.getpid())))
    rlm = Rlm(model, route="loop")
    try:
        if order.run:
            return await rlm.resume(order.run)
        return await rlm.ask(QUESTION, Path(order.text))
    finally:
        await model.aclose()


def main(order: Order) -> None:
    """Works, and says what came of it and how often each state was come to, if it gets there."""
    acknowledged = os.open(order.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fuse = Fuse(order)
    arm(fuse, acknowledged)
    answer = asyncio.run(_work(order))
    sys.stdout.write(json.dumps({"value": answer.value, "counts": fuse.counts}) + "\n")


def command(order: Order) -> list[str]:
    """How a victim is started."""
    return [sys.executable, "-m", __spec__.name, json.dumps(asdict(order))]


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
