"""The whole look-up: plan, retrieve, judge, ask, conclude.

Only retrieval runs in the sandbox. Leaves start from the host: it has judged the findings by then, so that hopeless
ones cost no tokens, and it builds each prompt and grammar from its own copy of the input. Rejected: the
cell sending the leaves' texts, which would let a sandbox choose what the model reads.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from terraphim_rlm.engine.lookup.decide import LookupResult, Steps
from terraphim_rlm.engine.lookup.judge import ReadSpan
from terraphim_rlm.engine.lookup.question import Plan
from terraphim_rlm.llm.client import ModelReply, ModelRequest

Ask = Callable[[ModelRequest], Awaitable[ModelReply | None]]
LIMIT = 24
"""Sentences that retrieval returns."""


def program(plan: Plan) -> str:
    """The cell that looks: it runs inside the sandbox and leaves its findings in `found`, and as its echo."""
    source = json.dumps(json.dumps(plan.to_guest(LIMIT)))
    return f"import json\nfrom guest import retrieve\nfound = retrieve.search(context, json.loads({source}))\njson.dumps(found)\n"


def reader(corpus: Mapping[str, bytes]) -> ReadSpan:
    """A `ReadSpan` over files held in memory."""

    def read(path: str, start: int, end: int) -> bytes | None:
        raw = corpus.get(path)
        return raw[start:end] if raw is not None and 0 <= start <= end <= len(raw) else None

    return read


async def drive(steps: Steps, ask: Ask) -> LookupResult:
    """Answers the batches of `steps` one request after the other, until there is a result.

    What `ask` raises ends the look-up: a provider's failure is never taken for a refusal by the input.
    Where `ask` gives None (no budget left, say), the host's rules decide alone, and more strictly.
    """
    try:
        batch = next(steps)
        while True:
            batch = steps.send([await ask(request) for request in batch])
    except StopIteration as done:
        result: LookupResult = done.value
        return result
