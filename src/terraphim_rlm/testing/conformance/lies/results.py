"""Sandboxes that run code well and tell its end wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault

_LARGE = 1 << 20


def _said(result: ExecutionResult, data: bytes) -> ExecutionResult:
    return replace(result, stdout_bytes=data, stdout=data.decode("utf-8", "backslashreplace"))


@fault("merges stderr into stdout", "output")
class Merges(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        merged = result.stdout_bytes + result.stderr.encode("utf-8", "surrogatepass")
        return replace(_said(result, merged), stderr="")


@fault("drops the last byte of output", "output")
class DropsLast(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return _said(result, result.stdout_bytes[:-1])


@fault("drops a byte in the middle of large output", "output")
class DropsMiddle(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        data = result.stdout_bytes
        middle = len(data) // 2
        return _said(result, data[:middle] + data[middle + 1 :]) if len(data) > _LARGE else result


@fault("changes one byte of large output", "output")
class Flips(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        data = bytearray(result.stdout_bytes)
        if len(data) > _LARGE:
            data[len(data) // 3] ^= 1
        return _said(result, bytes(data))


@fault("reorders lines of output", "output")
class Reorders(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        lines = result.stdout_bytes.splitlines(keepends=True)
        if len(lines) > 1000:
            lines[500], lines[501] = lines[501], lines[500]
        return _said(result, b"".join(lines))


@fault("strips the line end at the end of output", "output")
class Strips(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return _said(result, result.stdout_bytes.rstrip(b"\n"))


@fault("turns CRLF into LF", "output")
class Translates(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return _said(result, result.stdout_bytes.replace(b"\r\n", b"\n"))


@fault("ends output at the first NUL byte", "output")
class EndsAtNul(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return _said(result, result.stdout_bytes.partition(b"\0")[0])


@fault("reads output as Latin-1", "output")
class Latin(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, stdout=result.stdout_bytes.decode("latin-1"))


@fault("drops bytes that are no UTF-8", "output")
class DropsInvalid(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return _said(result, result.stdout_bytes.decode("utf-8", "ignore").encode())


@fault("never says that output was cut", "output")
class NeverCut(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, truncated=False)


@fault("swallows exit codes", "status")
class SwallowsCodes(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, status="ok", exit_code=0) if result.status == "exit_nonzero" else result


@fault("takes exit code 137 for a kill", "status")
class TakesForKill(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        code = result.exit_code or 0
        return replace(result, status="killed", exit_code=None, signal=code - 128) if code > 128 else result


@fault("takes exit code 124 for a time-out", "status")
class TakesForTimeout(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, status="timeout", exit_code=None) if result.exit_code == 124 else result


@fault("reports ok for what a signal killed", "status")
class OkForSignals(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, status="ok", exit_code=0, signal=None) if result.status == "killed" else result


@fault("says ok of what ran out of time", "time-outs")
class OkForTimeouts(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, status="ok", exit_code=0) if result.status == "timeout" else result


@fault("says killed of what ran out of time", "time-outs")
class KilledForTimeouts(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, status="killed", signal=9) if result.status == "timeout" else result


@fault("says that state was kept when it is lost", "time-outs", "status")
class AlwaysKept(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, state_after="kept")


@fault("says that state was lost when it is kept", "time-outs")
class LostTooOften(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, state_after="lost") if result.status == "timeout" else result


@fault("keeps the error of code to itself", "status")
class NoError(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, error=None)


@fault("gives every execution the same id", "status")
class OneId(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, execution_id="exec-1")


@fault("says that nothing takes time", "status")
class NoTime(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, duration_ms={"run": 0.0})


@fault("says that every limit is held for the whole sandbox", "status")
class ClaimsLimits(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        return replace(result, limits_enforced=dict.fromkeys(["memory", "cpu", "pids"], "kernel-group"))


@fault("answers the same code from memory", "state")
class Remembers(Wrapped):
    def __init__(self, box: Any) -> None:
        super().__init__(box)
        self._known: dict[Any, ExecutionResult] = {}

    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        if not isinstance(code, str) or options or (code, language) not in self._known:
            self._known[(code, str(language))] = await super().run(code, language, **options)
        return self._known[(code, str(language))]
