"""Root and child nodes that play a task by a plan fixed beforehand, and the sub-model that knows the answers.

Depth counts as in the papers: 0 works by code alone, 1 asks sub-models about pieces, 2 gives parts to child nodes that ask
sub-models about pieces of theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.tokens import estimated_usage
from terraphim_rlm.testing.bench.yardsticks.instances import Instance
from terraphim_rlm.testing.oracle import OracleModel

DEPTHS = (0, 1, 2)
PARTS = 8
"""Child nodes at depth 2."""
_CHILD = "Work on this part: gather what is needed."
_PIECES = """
def cut(text, size):
    found, held, length = [], [], 0
    for line in text.splitlines():
        held.append(line)
        length += len(line) + 1
        if length >= size:
            found.append('\\n'.join(held))
            held, length = [], 0
    return found + (['\\n'.join(held)] if held else [])
def ask(text):
    pieces = cut(text, SIZE)
    return gather(pieces, llm_query_batched([f'{INSTRUCTION}\\n\\n{piece}' for piece in pieces]))
"""
_WORK = {
    0: "found = direct(context)",
    1: "found = ask(context)",
    2: "parts = cut(context, len(context) // PARTS + 1)\n"
    "found = [each for part in rlm_query_batched([CHILD] * len(parts), parts) for each in part]",
}


class PolicyModel:
    """A `ModelClient` that leads by a plan and answers sub-calls by an oracle. Children play the same plan.

    Args:
        error_rate, latency, seed: of the oracle.
    """

    def __init__(self, *, error_rate: float = 0.0, latency: float = 0.0, seed: int = 0) -> None:
        self._instance: Instance | None = None
        self._depth = 0
        self.oracle = OracleModel(self._truth, error_rate=error_rate, latency=latency, seed=seed)
        self.turns = 0
        """Replies to nodes, children included."""

    @property
    def asked(self) -> int:
        """Calls that were made of it."""
        return self.turns + len(self.oracle.requests)

    def play(self, instance: Instance, depth: int) -> None:
        """What is asked next, and how it is gone about; see above."""
        self._instance, self._depth = instance, depth
        self.turns = 0
        self.oracle.requests.clear()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("policy", local=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        return self._turn(request) if request.purpose == "turn" else await self.oracle.complete(request)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return self._turn(request) if request.purpose == "turn" else self.oracle.complete_nowait(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        reply = await self.complete(request)
        yield reply.text
        yield reply

    async def aclose(self) -> None:
        """Nothing is held open."""

    @property
    def _playing(self) -> Instance:
        if self._instance is None:
            raise AssertionError("Nothing is played yet.")
        return self._instance

    def _truth(self, request: ModelRequest) -> str:
        return self._playing.reader(request.messages[-1].content.partition("\n\n")[2])

    def _turn(self, request: ModelRequest) -> ModelReply:
        self.turns += 1
        is_child = _CHILD in request.messages[1].content
        said = sum(message.role == "assistant" for message in request.messages)
        text = self._child() if is_child else self._root(said)
        return ModelReply(text, estimated_usage(request, text))

    def _setup(self) -> str:
        own = self._playing
        return f"{own.code}{_PIECES}INSTRUCTION, CHILD, PARTS = {own.instruction!r}, {_CHILD!r}, {PARTS}\n"

    def _child(self) -> str:
        return f"```repl\n{self._setup()}FINAL(ask(context))\n```"

    def _root(self, said: int) -> str:
        if said == 0:
            return f"```repl\n{self._setup()}print(len(context), context[:300])\n```"
        return f"```repl\n{_WORK[self._depth]}\nFINAL(answer(found))\n```"
