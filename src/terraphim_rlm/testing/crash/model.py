"""The model of the rounds, a process of its own that outlives every kill: it counts and bills each request it gets.

Orders come with the path, `/ROUND/PID/STATE/NTH/v1`: at its `NTH` turn (`streaming`) or sub-call (`call`) from that
process it kills it, in the middle of a reply or before any.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from terraphim_rlm.testing.crash.program import key_of, reply_to
from terraphim_rlm.testing.fake_openai import Fake, FakeOpenAI, Seen, size


class Counting:
    """Answers requests, and writes each down before it is answered."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._count: Counter[tuple[str, bool]] = Counter()

    def __call__(self, seen: Seen) -> Fake:
        _, number, pid, state, nth, *_ = seen.path.split("/")
        messages = seen.body["messages"]
        key = key_of(messages)
        is_turn = key.startswith("turn ")
        self._count[pid, is_turn] += 1
        said = reply_to(key)
        tokens_in = sum(size(str(each["content"])) + 4 for each in messages)
        usage = {"prompt_tokens": tokens_in, "completion_tokens": size(said)}
        self._log.write(json.dumps({"round": number, "pid": pid, "key": key, "usage": usage}) + "\n")
        chance = random.Random(f"{number} {key}")  # noqa: S311 -- reproducible, not secret
        if self._count[pid, is_turn] == int(nth) and state == ("streaming" if is_turn else "call"):
            later = chance.uniform(0.0, 0.01)
            asyncio.get_running_loop().call_later(later, _kill, int(pid))
            return Fake(said, chunks=6, stall_after=4, usage=usage) if is_turn else Fake(said, hang=True)
        delay = chance.uniform(0.0, 0.008)
        return Fake(said, chunks=4, chunk_delay=delay / 4 if is_turn else 0.0, delay=delay, usage=usage)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _serve(log: Path) -> None:
    async with FakeOpenAI(default=Counting(log)) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(
            None, sys.stdin.read
        )  # until whoever began it is gone


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
