"""Controls: the very steps of a row, in a sandbox without its protection, must do the harm.

One runs in a process with namespaces and a control group of its own (`bottle`), so that what it harms is thrown away.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from terraphim_rlm.core.errors import InternalError, RlmError
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.testing.attack.harm import harm_done
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row
from terraphim_rlm.testing.attack.network import Sinks
from terraphim_rlm.testing.attack.protections import PROTECTIONS, WeakKeeper, guest_without
from terraphim_rlm.testing.attack.steps import Hung, run_steps


async def run_control(row: Row, lab: Lab, sinks: Sinks | None) -> Outcome:
    """Passed: the harm was done, so the row's silence means something."""
    began = time.monotonic()
    protections = [PROTECTIONS[name] for name in row.off]
    with ExitStack() as stack:
        for each in protections:
            if each.host is not None:
                stack.enter_context(each.host(lab))
        backend = Bubblewrap()
        edits = [each.launch for each in protections if each.launch]
        backend._keeper = WeakKeeper(edits, lab)
        try:
            async with backend:
                guest = guest_without(row.off)
                seen = await run_steps(row, backend, lab, "control", guest=guest, binds=row.binds)
        except Hung as error:
            return Outcome(row.id, "control", "passed", str(error), time.monotonic() - began)
        except RlmError as error:
            if isinstance(error, InternalError):
                raise
            return Outcome(row.id, "control", "failed", f"the sandbox without it: {error.message}")
    done = harm_done(row, seen, lab, sinks)
    why = "; ".join(done) if done else f"no harm was done; {_last_words(seen[-1].text)}"
    return Outcome(row.id, "control", "passed" if done else "failed", why, time.monotonic() - began)


def _last_words(text: str) -> str:
    return f"it said {' '.join(text.split())[-300:]!r}"
