"""A recorded run, and ways to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from terraphim_rlm.core.events import Event, EventLog, EventType
from terraphim_rlm.core.values import Answer, Evidence, Usage, to_json

RUN = "run-01M84AH7KYD7J3FR94T2FV286Y"
ROOT, CHILD = "node-root", "node-child"
TRLM = Path(sys.executable).with_name("trlm")

ANSWER = Answer(
    RUN,
    "pattern matching",
    confidence="verified",
    evidence=(Evidence("lib/difflib.py", 10, 40, 5, 'under the hyperbolic\n  name "gestalt"', True),),
    termination="final_var",
    usage=Usage(tokens_in=1000, tokens_out=24, calls=4, microdollars=2100),
    seconds=3.2,
)

Step = tuple[EventType, str, str | None, Mapping[str, Any]]
_USAGE = to_json(Usage(tokens_in=100, tokens_out=10, calls=1))
STEPS: list[Step] = [
    ("run.started", ROOT, None, {"question": "Who?", "model": "openai/x", "limits": {"dollars": 2.0},
                                 "context": {"kind": "folder", "bytes": 5000, "files": 3}}),
    ("node.started", ROOT, None, {"depth": 0, "question": "Who?"}),
    ("turn.request", ROOT, None, {"turn": 1, "messages": 2}),
    ("turn.reply", ROOT, None, {"turn": 1, "text": "..", "usage": _USAGE}),
    ("turn.parsed", ROOT, None, {"turn": 1, "commands": [{"kind": "code"}]}),
    ("cell.started", ROOT, None, {"turn": 1, "execution_id": "e/1", "language": "python", "code": "parts = llm_query_batched(x)"}),
    ("call.started", ROOT, None, {"call_id": "c1", "op": "llm_query_batched", "count": 2}),
    ("call.finished", ROOT, None, {"call_id": "c1", "ok": False, "failed": 1,
                                   "usage": to_json(Usage(tokens_in=20, tokens_out=2, calls=2, microdollars=40))}),
    ("node.started", CHILD, ROOT, {"depth": 1, "question": "And the \x1b[2Jrest?"}),
    ("turn.request", CHILD, ROOT, {"turn": 1}),
    ("turn.reply", CHILD, ROOT, {"turn": 1, "usage": _USAGE}),
    ("node.finished", CHILD, ROOT, {"depth": 1, "termination": "final"}),
    ("cell.finished", ROOT, None, {"execution_id": "e/1", "status": "exit_nonzero", "duration_ms": {"run": 1500.0}}),
    ("budget.warning", ROOT, None, {"limit": "tokens", "used": 80_000, "of": 100_000}),
    ("node.finished", ROOT, None, {"depth": 0, "termination": "final_var"}),
    ("answer", ROOT, None, to_json(ANSWER)),
    ("run.finished", ROOT, None, {"status": "done", "termination": "final_var", "usage": to_json(ANSWER.usage), "seconds": 3.2}),
]  # fmt: skip


def events(steps: list[Step] = STEPS) -> list[Event]:
    """The steps as a run's events."""
    found: list[Event] = []
    log = EventLog(RUN, [found.append])
    for kind, node, parent, data in steps:
        log.emit(kind, node, parent, **data)
    return found


def trlm(*arguments: str, data: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(data),
        "TRLM_DATA": str(data),
        "TRLM_CONFIG": str(data / "none"),
    }
    extra = options.pop("env", {})
    return subprocess.run(
        [str(TRLM), *arguments], capture_output=True, text=True, timeout=60, check=False, env={**env, **extra}, **options
    )  # fmt: skip


@contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process with pipes as its output, which does not outlive the test."""
    with subprocess.Popen(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as child:
        try:
            yield child
        finally:
            child.kill()
