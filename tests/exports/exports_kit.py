"""Runs written to the journal as they may have happened, and a browser that says what a page did."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import Answer, Evidence, ExecutionResult, Usage, to_json
from terraphim_rlm.store.journal import Journal

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT_USAGE = Usage(tokens_in=100, tokens_out=20, calls=1, microdollars=500)
SUB_USAGE = Usage(tokens_in=30, tokens_out=6, calls=2, microdollars=40)


class Written:
    """A run written event by event: two turns, a failing cell, a batch of sub-calls, a child, a cited answer.

    Args:
        said: stands wherever a model, a sandbox or an input may say something.
        upto: events that are written; None = all of them.
    """

    def __init__(self, said: str = "word", *, upto: int | None = None) -> None:
        self.said = said
        self.clock = ManualClock()
        self.left = upto
        self.root, self.child = new_id("node"), new_id("node")
        with Journal(clock=self.clock) as journal:
            self.log = EventLog(new_id("run"), [journal.sink], self.clock)
            self._write()
        self.run = self.log.run

    def _tell(self, kind: Any, node: str, parent: str | None, **data: Any) -> None:
        self.clock.advance(0.25)
        if self.left != 0:
            self.log.emit(kind, node, parent, **data)
            self.left = None if self.left is None else self.left - 1

    def _write(self) -> None:
        tell, said, root = self._tell, self.said, self.root
        tell("run.started", root, None, question=f"Why {said}?", model="openai/x", sub_model="openai/y", route="loop",
             limits={"tokens": 1000}, context={"kind": "folder", "bytes": 50, "files": 3}, follows=None)  # fmt: skip
        tell("node.started", root, None, depth=0, question=f"Why {said}?")
        self._turn(root, None, 1, f"look\n```repl\nprint(1) # {said}\n```", "code")
        cell = self._cell(root, None, 1, f"print(1) # {said}")
        tell(
            "verdict",
            root,
            None,
            decision="warn",
            findings=[{"rule": said, "message": said, "severity": "low"}],
        )
        tell("call.started", root, None, call_id="exec-1", op="llm_query_batched", count=2, asked="d1")
        tell("call.finished", root, None, call_id="exec-1", ok=False, failed=1, seconds=0.2, usage=to_json(SUB_USAGE),
             value=[{"value": said}, {"type": "ModelError", "message": said}])  # fmt: skip
        self._child(cell)
        tell("cell.output", root, None, execution_id=cell, stream="stdout", text=said)
        self._ended(
            root,
            None,
            cell,
            "exit_nonzero",
            stdout=said,
            error={"type": "E", "message": said, "traceback": f"E: {said}"},
        )
        tell("budget.warning", root, None, limit="tokens", used=800, of=1000)
        self._turn(root, None, 2, f"FINAL({said})", "final")
        tell("node.finished", root, None, depth=0, termination="final")
        found = (Evidence("lib/a.py", 3, 9, 2, f"quoted {said}", True),)
        tell(
            "answer",
            root,
            None,
            **to_json(
                Answer(
                    self.log.run, f"because {said}", confidence="verified", evidence=found, usage=self.total
                )
            ),
        )
        tell(
            "run.finished",
            root,
            None,
            status="done",
            termination="final",
            usage=to_json(self.total),
            seconds=6.0,
        )

    total = Usage(tokens_in=330, tokens_out=66, calls=5, microdollars=1540)

    def _turn(self, node: str, parent: str | None, turn: int, text: str, kind: str) -> None:
        self._tell(
            "turn.request", node, parent, turn=turn, messages=2 * turn, tokens_estimate=90, compacted=False
        )
        self._tell(
            "turn.reply", node, parent, turn=turn, text=text, usage=to_json(ROOT_USAGE), finish_reason="stop"
        )
        self._tell(
            "turn.parsed",
            node,
            parent,
            turn=turn,
            commands=[{"kind": kind, "start": 0, "end": 3}],
            dropped=[],
            notice=None,
        )

    def _cell(self, node: str, parent: str | None, turn: int, code: str) -> str:
        number = f"{node}/{turn}"
        self._tell("cell.started", node, parent, turn=turn, execution_id=number, language="python", code=code)
        return number

    def _ended(self, node: str, parent: str | None, number: str, status: Any, **fields: Any) -> None:
        whole = to_json(ExecutionResult(number, status, exit_code=1, duration_ms={"run": 250.0}))
        self._tell("cell.finished", node, parent, **{**whole, "stdout_bytes": None, **fields})

    def _child(self, cell: str) -> None:
        tell, root, child, said = self._tell, self.root, self.child, self.said
        tell("call.started", root, None, call_id="exec-2", op="rlm_query", count=1, asked="d2")
        tell("node.started", child, root, depth=1, question=f"part {said}")
        self._turn(child, root, 1, f"FINAL({said})", "final")
        tell("node.finished", child, root, depth=1, termination="final")
        tell(
            "call.finished",
            root,
            None,
            call_id="exec-2",
            ok=True,
            failed=0,
            seconds=1.0,
            usage=to_json(Usage()),
            value=said,
        )


def _high_pipe() -> tuple[int, int]:
    """Descriptors that are neither 3 nor 4, which a child gets."""
    low = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in low]
    for fd in low:
        os.close(fd)
    return high[0], high[1]


class Browser:
    """Chromium, spoken to over a pipe."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        (to_read, self._to), (self._from, to_write) = _high_pipe(), _high_pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', CHROMIUM, *flags.split(), "--disable-dev-shm-usage",
             "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", f"--user-data-dir={folder}"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._count = 0
        self._asked: dict[str, str] = {}
        self.blocked: list[str] = []
        self.dialogs: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self(f"{domain}.enable", session=True)

    def __call__(self, method: str, *, session: bool = False, **params: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        wanted = self._count
        answer = self._until(lambda each: each.get("id") == wanted)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _until(self, done: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self._buffer:
                data = os.read(self._from, 1 << 16)
                assert data, "The browser has gone."
                self._buffer += data
            raw, self._buffer = self._buffer.split(b"\0", 1)
            message = json.loads(raw)
            self._note(message)
            if done(message):
                return dict(message)

    def _note(self, message: Mapping[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self._asked[params["requestId"]] = params["request"]["url"]
        elif method == "Network.loadingFailed" and params.get("blockedReason") == "csp":
            self.blocked.append(self._asked.pop(params["requestId"], ""))
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._count += 1
            refuse = {"id": self._count, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
            os.write(self._to, json.dumps({**refuse, "sessionId": self._session}).encode() + b"\0")

    def open(self, page: Path) -> None:
        """Returns when the page and all that it wanted is loaded."""
        self._go("about:blank")
        self._asked.clear()
        self.blocked.clear()
        self.dialogs.clear()
        self._go(page.as_uri())

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for, but for what its own policy held back (`blocked`)."""
        return list(self._asked.values())

    def _go(self, address: str) -> None:
        self._count += 1
        message = {
            "id": self._count,
            "method": "Page.navigate",
            "params": {"url": address},
            "sessionId": self._session,
        }
        os.write(self._to, json.dumps(message).encode() + b"\0")
        self._until(lambda each: each.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        result = self(
            "Runtime.evaluate", session=True, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r" if key == "Enter" else key} if kind == "keyDown" else {}
            code = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
            self("Input.dispatchKeyEvent", session=True, type=kind, key=key, **text, **code)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    found = Browser(folder)
    try:
        yield found
    finally:
        found.close()
