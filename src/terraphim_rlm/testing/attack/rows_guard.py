"""Group A, the guard: code that is meant to be read for ever before it runs."""

from __future__ import annotations

import time

from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.testing.attack.model import Row
from terraphim_rlm.testing.attack.stage import Stage

_MB = 1 << 20
_HOSTILE = (
    ("python", "(" * _MB), ("python", "a.b.c." * 100_000), ("python", 'f"{' * 100_000), ("python", "1+" * 300_000 + "1"),
    ("python", "-" * 500_000 + "1"), ("python", "x = " + "[" * 100_000), ("python", "if 1:\n" + " if 1:\n" * 50_000), ("python", "'" * (_MB - 1)),
    ("bash", "'" + "x" * 500_000), ("bash", "$(" * 100_000), ("bash", "`" * 99_999), ("sh", "<<a " * 50_000), ("bash", "{a,b}" * 100_000),
    ("javascript", "(" * (_MB // 2)), ("javascript", "`${" * 100_000), ("rust", "{" * 200_000), ("go", "func(" * 100_000),
    ("python", "x" * (4 * _MB)), ("python", "\ud800\0" * 1_000),
)  # fmt: skip
_MOST_SECONDS = 15.0
"""Of one verdict, the start of a process and a busy machine included."""
_MOST_OWN_SECONDS = 0.5
"""Of that, processor time of ours: the event loop does nothing else meanwhile."""


async def feeds_the_guard(stage: Stage) -> None:
    """A32: each text is judged in its time, costs the host little, and the guard judges the next one as ever."""
    async with make_guard() as guard:
        for language, code in _HOSTILE:
            what = f"{code[:12]!r} {len(code):,} characters long, as {language}"
            began, own = time.monotonic(), time.process_time()
            verdict = await guard.verdict(code, language)
            took, own = time.monotonic() - began, time.process_time() - own
            stage.expect(took < _MOST_SECONDS, f"{what}: {took:.1f} s until its verdict")
            stage.expect(own < _MOST_OWN_SECONDS, f"{what}: {own:.1f} s of the host's own time")
            stage.expect(len(str(verdict)) < _MB, f"{what}: a verdict of {len(str(verdict)):,} characters")
            after = await guard.verdict("print(40 + 2)", "python")
            stage.expect(after.decision == "allow", f"after {what}: harmless code is {after.decision}")
        harmful = await guard.verdict("import os\nos.system('rm -rf /')", "python")
        stage.expect(harmful.decision == "block", f"after all of them harmful code is {harmful.decision}")


ROWS = (
    Row("A32", "P1", "gives the guard code that takes for ever to read", act=feeds_the_guard, most=300.0),
)
