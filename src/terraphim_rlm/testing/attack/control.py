"""Controls: the very steps of a row, in a sandbox without its protection, must do the harm.

One runs in a process with namespaces and a control group of its own (`bottle`), so that what it harms is thrown away.
"""

from __future__ import annotations

import asyncio
import time

from terraphim_rlm.core.errors import InternalError, RlmError
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.testing.attack.harm import harm_done
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row
from terraphim_rlm.testing.attack.network import Sinks
from terraphim_rlm.testing.attack.protections import PROTECTIONS
from terraphim_rlm.testing.attack.stage import Hung, Stage
from terraphim_rlm.testing.attack.weak import without


async def run_control(row: Row, lab: Lab, sinks: Sinks | None) -> Outcome:
    """Passed: the harm was done, so the row's silence means something."""
    began = time.monotonic()
    with without([PROTECTIONS[name] for name in row.off], lab):
        async with Bubblewrap() as backend:
            stage = Stage(row, backend, lab, "control", off=row.off)
            try:
                async with asyncio.timeout(row.deadline):
                    await stage.play()
            except (Hung, TimeoutError) as error:
                return Outcome(row.id, "control", "passed", str(error) or "it hung", time.monotonic() - began)
            except RlmError as error:
                if isinstance(error, InternalError):
                    raise
                if not stage.harms:
                    why = f"the sandbox without it: {error.message}"
                    return Outcome(row.id, "control", "failed", why)
    done = harm_done(stage, sinks)
    why = "; ".join(done) if done else f"no harm was done; {_last_words(stage)}"
    return Outcome(row.id, "control", "passed" if done else "failed", why, time.monotonic() - began)


def _last_words(stage: Stage) -> str:
    text = stage.seen[-1].text if stage.seen else "; ".join(stage.wrongs)
    return f"it said {' '.join(text.split())[-300:]!r}"
