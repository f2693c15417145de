"""Code in a session of the daemon, its output as it comes, stopped cleanly when its caller is."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Literal
from urllib.parse import quote

from terraphim_rlm.core.errors import DaemonUnavailable, RlmError, from_json
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.faces.client.connection import Connection
from terraphim_rlm.service.executions import Execution

OnOutput = Callable[[Literal["stdout", "stderr"], str], None]
_STOP_SECONDS = 10.0
"""That code which is stopped has to end, before its caller leaves it to the daemon."""


async def execute(
    connection: Connection, session: str, execution: Execution, on_output: OnOutput | None = None
) -> ExecutionResult:
    """Runs it. When the caller is cancelled the code is stopped, and has normally ended when this raises.

    Raises:
        RlmError: what the daemon answers in place of a result.
    """
    started: list[str] = []
    task = asyncio.ensure_future(_followed(connection, session, execution, on_output, started))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if started and not task.done():
            with suppress(RlmError, TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await connection.delete(f"/api/executions/{quote(started[0], safe='')}")
                    await task
        raise
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: the caller has it, or has left


async def _followed(
    connection: Connection,
    session: str,
    execution: Execution,
    on_output: OnOutput | None,
    started: list[str],
) -> ExecutionResult:
    path = f"/api/sessions/{quote(session, safe='')}/executions"
    async with aclosing(connection.lines(path, _body(execution))) as lines:
        async for line in lines:
            kind = line["type"]
            if kind == "started":
                started.append(line["execution_id"])
            elif kind == "output" and on_output is not None:
                on_output(line["stream"], line["text"])
            elif kind == "result":
                return ExecutionResult.from_json(line["result"])
            elif kind == "error":
                raise from_json(line["error"])
    raise DaemonUnavailable("The daemon ended its answer before the result.", fix="Look at `trlm history`.")


def _body(execution: Execution) -> dict[str, Any]:
    """As the daemon takes it."""
    body: dict[str, Any] = {
        "code": execution.code,
        "language": execution.language,
        "timeout": execution.timeout,
        "env": dict(execution.env),
        "cwd": execution.cwd,
        "wait": execution.wait,
    }
    if execution.stdin is not None:
        raw = execution.stdin.encode() if isinstance(execution.stdin, str) else execution.stdin
        body["stdin_base64"] = base64.b64encode(raw).decode()
    return body
