"""The benchmark of the engine: small sizes give every row, and a peer that fails is told with its error."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.testing.bench import engine as bench
from terraphim_rlm.testing.bench import engine_work as work
from terraphim_rlm.testing.bench.engine_peers import Beside
from terraphim_rlm.testing.bench.peers import Peer
from terraphim_rlm.testing.engines import peers
from terraphim_rlm.testing.engines.ours import ask
from terraphim_rlm.testing.engines.play import Play, ProviderFailed

pytestmark = pytest.mark.anyio
SMALL = bench.Sizes(
    runs=2, round_trips=20, repeats=1, megabytes=2, growing_megabytes=(1,), growing_calls=(10,), growing_children=(2,)
)  # fmt: skip

PEER = """
import json, sys, time
for line in sys.stdin:
    job = json.loads(line)
    what = sys.argv[1]
    if what == "ends": break
    if what == "hangs": time.sleep(1000)
    told = {"answer": "[1.0, 3.0]", "error": None, "seconds": 0.5, "rss_mb": 100, "requests": []}
    if what == "wrong": told = {**told, "answer": None, "error": "ValueError: no"}
    done = {"samples": [2.0]} if "repl" in job else {"told": [told] * job["repeat"]}
    print(json.dumps({"version": "1.2", **done}), flush=True)
"""


@pytest.mark.sandbox
async def test_every_row_is_measured_at_small_sizes(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TRLM_DATA", str(tmp_path))
    seen: list[dict[str, Any]] = []
    await bench.engine(seen.append, sizes=SMALL)

    names = [each["row"] for each in seen]
    assert len(set(names)) == len(names)
    assert all(each["n"] > 0 and each["p50"] is not None and each["why"] for each in seen), seen
    for goal in (0.25, 0.1, 10, 2, 1.1, 0.12, 0.2):
        assert goal in [each["goal"] for each in seen]
    assert list(tmp_path.glob("bench-*")) == []


@pytest.fixture
def beside(monkeypatch: Any, tmp_path: Path) -> Any:
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    monkeypatch.setattr(peers, "_SCRIPT", script)
    monkeypatch.setattr(peers, "python_of", lambda peer: sys.executable if peer.name != "missing" else none())
    engines = [peers.PeerEngine(Peer(name, "x")) for name in ("good", "wrong", "ends", "hangs", "missing")]
    made = Beside(engines, 3.0)
    yield made
    made.close()


def none() -> str:
    raise OSError("no index")


async def test_a_peer_that_fails_is_told_with_its_error_and_the_others_with_their_figures(
    beside: Beside,
) -> None:
    told = await beside.timed_inside(work.SUB_CALLS, 1)
    assert (told["good"]["p50"], told["good"]["version"], told["good"]["n"]) == (1.0, "1.2", 2)
    errors = {name: each["error"] for name, each in told.items() if "error" in each}
    assert errors == {
        "wrong": "the run gave ValueError: no",
        "ends": "its process ended without a result",
        "hangs": "it was not done after 3 s",
        "missing": "no index",
    }


async def test_a_peer_is_asked_again_after_its_process_was_ended(beside: Beside) -> None:
    assert (await beside.repl(1))["good"]["p50"] == 2.0
    beside.close()
    assert (await beside.memory(work.RUN, 100))["good"]["p50"] == pytest.approx(1.049)


def test_the_played_model_follows_its_script() -> None:
    script = {
        "turns": [["ROOT", [{"code": "a"}, {"code": "b"}]], ["CHILD", [{"text": "c"}]]],
        "subs": [["bad", {"fail": 400}], ["say", "<{prompt}>"]],
        "fail_first": 1,
    }
    play = Play(script, json.dumps)

    def said(*texts: str) -> str:
        return play.reply([{"role": "user", "content": text} for text in texts])

    assert [said("ROOT"), said("ROOT", "x"), said("ROOT")] == [
        '{"code": "a"}',
        '{"code": "b"}',
        '{"code": "b"}',
    ]
    assert said("of CHILD") == '{"text": "c"}' == said("several", "messages")
    with pytest.raises(ProviderFailed, match="503"):
        said("say")
    assert (said("say x"), said("else")) == ("<say x>", "yes")
    with pytest.raises(ProviderFailed, match="400"):
        said("bad")
    assert play.calls == 9


@pytest.mark.sandbox
async def test_a_script_gives_our_answer_and_what_was_sent() -> None:
    told = await ask(work.fan_out(20, latency=0.01))

    assert 0.01 <= told["answer"][0] < 5
    assert (told["error"], told["calls"], told["usage"]) == (None, 22, 22)
    assert told["requests"][0]["messages"][0][0] == "system"


async def test_a_peer_is_not_asked_for_what_it_does_not_offer(monkeypatch: Any) -> None:
    async def never(self: Any, job: Any, seconds: float) -> Any:
        return {"version": "1", "error": "it was asked"}

    monkeypatch.setattr(peers.PeerEngine, "job", never)
    others = Beside([peers.PeerEngine(peer) for peer in peers.ENGINES if peer.name != "rlms"], 1.0)
    told = await others.timed_inside(work.children(2), 1)
    assert {name: each["error"] for name, each in told.items()} == {
        "dspy": "not offered: its children are agents of other kinds, with other inputs",
        "rlmness": "it was asked",
        "recursive-llm": "not offered: its cells import nothing",
    }


STARTS = """
import sys, time
from terraphim_rlm.core import process
from terraphim_rlm.testing.engines.leash import Leash

leash = Leash()
process.start(leash.argv(sys.executable, sys.argv[1]), pass_fds=[leash.fd], stdout=None)
time.sleep(60)
"""
PEER_THAT_WORKS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
import os
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_peer_and_what_it_started_end_with_whoever_started_it(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "peer.py"
    script.write_text(PEER_THAT_WORKS)
    with subprocess.Popen([sys.executable, "-c", STARTS, str(script)], stdout=subprocess.PIPE) as bench:
        assert bench.stdout is not None
        pids = [int(pid) for pid in bench.stdout.readline().split()]
        ends = [os.pidfd_open(pid) for pid in pids]
        assert select.select(ends, [], [], 0)[0] == []
        bench.send_signal(how)
        for end in ends:
            assert select.select([end], [], [], 20)[0] == [end]
            os.close(end)
