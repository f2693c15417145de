"""Any sequence of starts, ends, failures, calls and passing time: the supervisor stands as a small model says."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from puppets import CRASH, KILLED, NORMAL, SHUTDOWN, Stage, states

from terraphim_rlm.core.errors import ChildError

NAMES = st.sampled_from("abcd")
EXITS = st.sampled_from([NORMAL, SHUTDOWN, CRASH, KILLED])
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])


class Model:
    """What OTP's documentation says, for children by name: restart type, significant, and whether it runs."""

    def __init__(self, strategy: str, intensity: int, period: int, rule: str) -> None:
        self.strategy, self.intensity, self.period, self.rule = strategy, intensity, period, rule
        self.children: dict[str, list[Any]] = {}
        """Name -> [restart, significant, runs]; in start order."""
        self.times: list[int] = []
        self.failing: dict[str, int] = {}
        self.over = False

    def starts(self, name: str) -> bool:
        if self.failing.get(name, 0):
            self.failing[name] -= 1
            return False
        self.children[name][2] = True
        return True

    def ended(self, name: str, abnormal: bool, now: int) -> None:
        restart, significant, _ = self.children[name]
        self.children[name][2] = False
        if restart == "permanent" or (restart == "transient" and abnormal):
            self.restart(name, now)
            return
        if restart == "temporary":
            del self.children[name]
        alive = any(each[1] and each[2] for each in self.children.values())
        if significant and (self.rule == "any_significant" or (self.rule == "all_significant" and not alive)):
            self.end()

    def restart(self, name: str, now: int) -> None:
        while True:
            self.times = [each for each in self.times if each >= now - self.period] + [now]
            if len(self.times) > self.intensity:
                self.end()
                return
            order = list(self.children)
            affected = {"one_for_one": [name], "one_for_all": order}.get(
                self.strategy, order[order.index(name) :]
            )
            for each in affected:
                self.children[each][2] = False
                if self.children[each][0] == "temporary":
                    del self.children[each]
            for each in affected:
                if each in self.children and not self.starts(each):
                    name = each
                    break
            else:
                return

    def end(self) -> None:
        self.over = True


class Supervision(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        intensity=st.integers(0, 4),
        period=st.integers(1, 6),
        auto=st.sampled_from(["never", "any_significant", "all_significant"]),
    )
    def begin(self, strategy: str, intensity: int, period: int, auto: str) -> None:
        self.model = Model(strategy, intensity, period, auto)

        async def make() -> None:
            self.stage = Stage()
            flags: Any = {
                "strategy": strategy,
                "intensity": intensity,
                "period": period,
                "auto_shutdown": auto,
            }
            self.supervisor = self.stage.supervisor(**flags)
            await self.supervisor.start()

        self.do(make())

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES, restart=RESTARTS, significant=st.booleans())
    def start_child(self, name: str, restart: str, significant: bool) -> None:
        significant = significant and restart != "permanent" and self.model.rule != "never"
        spec = self.stage.spec(name, restart=restart, significant=significant)
        wanted = name not in self.model.children
        if wanted:
            self.model.children[name] = [restart, significant, False]
            if not self.model.starts(name):
                del self.model.children[name]
                wanted = False
        self.expect(self.supervisor.start_child(spec), wanted)

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES, times=st.integers(1, 3))
    def starts_will_fail(self, name: str, times: int) -> None:
        self.model.failing[name] = self.stage.failing[name] = times

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES, exit=EXITS)
    def child_ends(self, name: str, exit: Any) -> None:
        if self.model.children.get(name, [0, 0, False])[2]:
            self.model.ended(name, exit.is_abnormal, int(self.stage.clock.now()))

            async def end() -> None:
                self.stage.puppets[name].end(exit)
                await self.supervisor.settled()

            self.do(end())

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES)
    def terminate_child(self, name: str) -> None:
        known = name in self.model.children
        if known:
            self.model.children[name][2] = False
            if self.model.children[name][0] == "temporary":
                del self.model.children[name]
        self.expect(self.supervisor.terminate_child(name), known)

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES)
    def restart_child(self, name: str) -> None:
        fine = name in self.model.children and not self.model.children[name][2] and self.model.starts(name)
        self.expect(self.supervisor.restart_child(name), fine)

    @precondition(lambda self: not self.model.over)
    @rule(name=NAMES)
    def delete_child(self, name: str) -> None:
        fine = name in self.model.children and not self.model.children[name][2]
        if fine:
            del self.model.children[name]
        self.expect(self.supervisor.delete_child(name), fine)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)

    def expect(self, call: Any, fine: bool) -> None:
        try:
            self.do(call)
        except ChildError:
            assert not fine
        else:
            assert fine

    @invariant()
    def they_agree(self) -> None:
        if hasattr(self, "model"):
            assert (self.supervisor.statistics().state == "over") == self.model.over
            if self.model.over:
                assert not any(state == "running" for state in states(self.supervisor).values())
                assert all(puppet.ended.done() for puppet in self.stage.puppets.values())
            else:
                wanted = {
                    name: "running" if each[2] else "down" for name, each in self.model.children.items()
                }
                assert states(self.supervisor) == wanted
                assert list(states(self.supervisor)) == list(self.model.children)

    def teardown(self) -> None:
        if hasattr(self, "supervisor"):
            self.do(self.supervisor.stop())
            assert all(puppet.ended.done() for puppet in self.stage.puppets.values())
        self.loop.close()


TestSupervision = Supervision.TestCase
TestSupervision.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, database=None)
