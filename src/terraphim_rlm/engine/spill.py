"""What a cell printed beyond what its model is shown: kept whole in `outputs`, and as a file when it is long."""

from __future__ import annotations

import json
from dataclasses import replace

from terraphim_rlm.core.errors import DiskFull, SandboxBusy, SandboxLost, UsageError
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.engine.observe import Showing
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.link.memory import Handover
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.sandbox import Sandbox

LONG = 64 << 10
"""Bytes of output from which on it lies in a file, too."""
_FOLDER = ".outputs"


async def spill(
    number: int, result: ExecutionResult, sandbox: Sandbox, interpreter: Interpreter, showing: Showing
) -> tuple[ExecutionResult, str]:
    """Keeps the output of cell `number` when the model is not shown all of it.

    Returns:
        The result, with `spill_path` when there is a file, and a line that tells the model how to page.
    """
    if len(result.stdout) <= showing.limit and len(result.stderr) <= showing.limit // 2:
        return result, ""
    data = result.stdout_bytes + result.stderr.encode("utf-8", "surrogatepass")
    told = []
    if result.state_after != "lost" and _in_variable(number, data, interpreter):
        name = f"outputs[{number}]"
        told.append(
            f"All {len(data):,} bytes are in the variable {name}: page by {name}[8000:16000], "
            f"lines(1, 80, {name}) or grep(pattern, {name})."
        )
    if len(data) > LONG:
        path = f"{interpreter.cwd}/{_FOLDER}/{number}.txt"
        try:
            await sandbox.files.write(path, data)
        except (DiskFull, UsageError, SandboxLost, SandboxBusy):
            pass  # what the model was shown and what the journal holds must do
        else:
            result = replace(result, spill_path=path)
            told.append(f"They lie in the file {path}, too." if told else f"All of it is in the file {path}.")
    return result, " ".join(told)


def _in_variable(number: int, data: bytes, interpreter: Interpreter) -> bool:
    """Hands the output to a living interpreter, as memory that nobody can change."""
    if not interpreter.is_alive:
        return False
    about = {
        "number": number,
        "kind": "text",
        "path": f"output of cell {number}",
        "ascii": data.isascii(),
        "errors": "replace",
    }
    try:
        with Room() as room:
            interpreter.keep_output(Handover(room.sealed("output", [data]), json.dumps(about).encode()))
    except SandboxBusy:  # the host has no room for it
        return False
    return True
