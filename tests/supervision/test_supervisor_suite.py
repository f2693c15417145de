"""The cases of OTP's `supervisor_SUITE`, by their names, in words of our own.

Left out is what asks for the Erlang virtual machine: code_change*, significant_upgrade*, simple_global_supervisor,
faulty_application_shutdown, format_log_*, get_callback_module, and hibernation. `sup_start_ignore_init`,
`sup_start_error_return` and `sup_start_fail` are about an init callback, which is here the constructor's arguments.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import Any

import pytest
from puppets import CRASH, KILLED, NORMAL, SHUTDOWN, Puppet, Stage, states

from terraphim_rlm.core.errors import ChildError, CrashLoop, InvalidArgument, NotSupported, RlmError
from terraphim_rlm.supervision.spec import Child, ChildSpec, Flags
from terraphim_rlm.supervision.supervisor import Supervisor, supervised


async def state_of(error: pytest.ExceptionInfo[ChildError]) -> Any:
    return error.value.details["state"]


# sup_start


async def test_sup_start_normal_a_supervisor_without_children_starts_and_ends_as_shutdown() -> None:
    supervisor = Supervisor()
    await supervisor.start()
    assert supervisor.which_children() == []
    assert (await supervisor.stop()).kind == "shutdown"


async def test_sup_start_ignore_child_keeps_the_spec_of_one_that_does_not_want_to_run(stage: Stage) -> None:
    stage.ignoring.add("a")
    async with stage.supervisor() as supervisor:
        assert await supervisor.start_child(stage.spec("a")) == "a"
        assert await supervisor.start_child(stage.spec("b")) == "b"
        assert states(supervisor) == {"a": "down", "b": "running"}
        assert supervisor.count_children() == (supervisor.count_children().__class__)(2, 1, 0, 2)


async def test_sup_start_ignore_temporary_child_keeps_no_spec(stage: Stage) -> None:
    stage.ignoring.add("a")
    a, b = stage.spec("a", restart="temporary"), stage.spec("b", restart="temporary")
    async with stage.supervisor(a, b) as supervisor:
        assert states(supervisor) == {"b": "running"}


async def test_sup_start_ignore_temporary_child_start_child_keeps_no_spec(stage: Stage) -> None:
    stage.ignoring.add("a")
    async with stage.supervisor() as supervisor:
        assert await supervisor.start_child(stage.spec("a", restart="temporary")) is None
        assert states(supervisor) == {}


@pytest.mark.parametrize("restart", ["temporary", "permanent"])
async def test_sup_start_ignore_child_start_child_simple_keeps_nothing(stage: Stage, restart: Any) -> None:
    stage.ignoring.add("w1")
    async with stage.supervisor(
        stage.spec("w", restart=restart), strategy="simple_one_for_one"
    ) as supervisor:
        assert await supervisor.start_child(1) is None
        kept = await supervisor.start_child(2)
        assert states(supervisor) == {kept: "running"}


async def test_sup_start_fail_ends_what_was_started_in_reverse_order_and_tries_nothing_again(
    stage: Stage,
) -> None:
    stage.failing["c"] = 1
    supervisor = stage.supervisor(*map(stage.spec, "abcd"))
    with pytest.raises(ChildError, match="c does not start"):
        await supervisor.start()
    assert stage.took() == ["start a", "start b", "fail c", "ask b", "ask a"]
    assert (await supervisor.wait()).why.startswith("failed_to_start_child")
    with pytest.raises(ChildError):
        await supervisor.start()


async def test_sup_start_map_gives_every_field_the_default_of_otp() -> None:
    async def start() -> Child | None:
        return None

    spec = ChildSpec("a", start)
    assert (spec.restart, spec.ends, spec.type, spec.significant) == ("permanent", 5.0, "worker", False)
    assert ChildSpec("a", start, type="supervisor").ends == "infinity"
    flags = Flags()
    assert (flags.strategy, flags.intensity, flags.period, flags.auto_shutdown) == (
        "one_for_one",
        1,
        5,
        "never",
    )
    async with Supervisor([spec]) as supervisor:
        assert supervisor.childspec("a") is spec
        with pytest.raises(ChildError):
            supervisor.childspec("b")


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"restart": "sometimes"}, {}),
        ({"type": "boss"}, {}),
        ({"shutdown": -1}, {}),
        ({"shutdown": True}, {}),
        ({"shutdown": float("nan")}, {}),
        ({"shutdown": "later"}, {}),
        ({"significant": True, "restart": "transient"}, {}),
        ({"significant": True, "restart": "permanent"}, {"auto_shutdown": "any_significant"}),
        ({}, {"strategy": "some_for_one"}),
        ({}, {"intensity": -1}),
        ({}, {"intensity": True}),
        ({}, {"intensity": 1.5}),
        ({}, {"period": 0}),
        ({}, {"auto_shutdown": "always"}),
    ],
)
async def test_sup_start_map_faulty_specs_and_sup_flags_are_refused_by_name(
    stage: Stage, options: dict[str, Any], flags: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        stage.supervisor(stage.spec("a", **options), **flags)


async def test_child_specs_that_cannot_be_are_refused_and_so_are_two_of_one_id(stage: Stage) -> None:
    for specs in ([stage.spec("a"), stage.spec("a")], [stage.spec("")], ["a"], [ChildSpec("a", None)]):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            stage.supervisor(*specs)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        stage.supervisor(stage.spec("a"), stage.spec("b"), strategy="simple_one_for_one")
    async with stage.supervisor() as supervisor:
        with pytest.raises(InvalidArgument):
            await supervisor.start_child(stage.spec("a", restart="never"))
        assert states(supervisor) == {}


# sup_stop


async def test_sup_stop_infinity_waits_for_worker_and_supervisor(stage: Stage) -> None:
    stage.deaf.add("b")
    supervisor = stage.supervisor(stage.spec("a", type="supervisor"), stage.spec("b", shutdown="infinity"))
    await supervisor.start()
    stopping = asyncio.ensure_future(supervisor.stop())
    while "ask b" not in stage.log:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stopping.done()
    stage.puppets["b"].end(SHUTDOWN)
    assert (await stopping).kind == "shutdown"
    assert stage.took() == ["start a", "start b", "ask b", "ask a"]


async def test_sup_stop_timeout_kills_a_child_that_does_not_end(stage: Stage) -> None:
    stage.deaf.add("b")
    supervisor = stage.supervisor(stage.spec("a"), stage.spec("b", shutdown=0.05), stage.spec("c"))
    await supervisor.start()
    await supervisor.stop()
    assert stage.took()[3:] == ["ask c", "ask b", "kill b", "ask a"]
    assert [(each.child, str(each.exit)) for each in stage.told("shutdown_error")] == [("b", "killed")]


async def test_sup_stop_brutal_kill_asks_nobody(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("a"), stage.spec("b", shutdown="brutal_kill")):
        stage.took()
    assert stage.took() == ["kill b", "ask a"]
    assert list(stage.told("shutdown_error")) == []


# child_adm


async def test_child_adm_every_call_says_how_the_child_stands(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("a"), intensity=10) as supervisor:
        for call in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildError) as unknown:
                await call("none")
            assert await state_of(unknown) == "unknown"
        for refused in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildError) as running:
                await refused("a")
            assert await state_of(running) == "running"
        with pytest.raises(ChildError) as started:
            await supervisor.start_child(stage.spec("a"))
        assert await state_of(started) == "running"
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")  # as in OTP, no error
        with pytest.raises(ChildError) as present:
            await supervisor.start_child(stage.spec("a"))
        assert await state_of(present) == "down"
        await supervisor.restart_child("a")
        assert states(supervisor) == {"a": "running"}
        await supervisor.terminate_child("a")
        stage.failing["a"] = 1
        with pytest.raises(ChildError) as failed:
            await supervisor.restart_child("a")
        assert await state_of(failed) == "failed"
        await supervisor.delete_child("a")
        assert states(supervisor) == {}
        assert supervisor.statistics().restarts == 0


async def test_child_adm_a_failed_start_child_leaves_no_spec(stage: Stage) -> None:
    stage.failing["a"] = 1
    async with stage.supervisor() as supervisor:
        with pytest.raises(ChildError, match="does not start"):
            await supervisor.start_child(stage.spec("a"))
        assert states(supervisor) == {}
        assert await supervisor.start_child(stage.spec("a")) == "a"


async def test_child_adm_simple_restart_and_delete_are_errors_and_terminate_takes_the_childs_own_id(
    stage: Stage,
) -> None:
    async with stage.supervisor(stage.spec("w"), strategy="simple_one_for_one") as supervisor:
        one, two = await supervisor.start_child(1), await supervisor.start_child(2)
        assert one is not None
        for call in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(NotSupported):
                await call(one)
        with pytest.raises(ChildError):
            await supervisor.terminate_child("w")
        await supervisor.terminate_child(one)
        assert states(supervisor) == {two: "running"}
        assert supervisor.count_children().specs == 1


async def test_a_call_after_the_end_is_refused_and_one_on_its_way_is_not_forgotten(stage: Stage) -> None:
    stage.deaf.add("a")
    supervisor = stage.supervisor(stage.spec("a", shutdown=0.05))
    await supervisor.start()
    stopping = asyncio.ensure_future(supervisor.stop())
    late = asyncio.ensure_future(supervisor.start_child(stage.spec("b")))
    await stopping
    with pytest.raises(ChildError) as refused:
        await late
    assert await state_of(refused) == "over"
    with pytest.raises(ChildError):
        await supervisor.start_child(stage.spec("b"))


async def test_a_call_behind_the_end_in_the_inbox_is_told_of_it(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.spec("a"))
    await supervisor.start()
    call = asyncio.ensure_future(supervisor.terminate_child("a"))
    await asyncio.sleep(0)  # it stands in the inbox, and the supervisor has not looked yet
    supervisor.ask()
    async with asyncio.timeout(10):
        with pytest.raises(ChildError) as refused:
            await call
    assert await state_of(refused) == "over"


async def test_leaving_is_hurried_by_a_cancellation_also_past_a_child_that_is_waited_for(
    stage: Stage,
) -> None:
    stage.deaf.add("a")
    entered = asyncio.Event()

    async def owner() -> None:
        async with stage.supervisor(stage.spec("a", shutdown="infinity")):
            entered.set()
            await asyncio.Event().wait()

    owning = asyncio.ensure_future(owner())
    await entered.wait()
    owning.cancel()
    while "ask a" not in stage.log:
        await asyncio.sleep(0)
    owning.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await owning
    assert stage.took()[-1] == "kill a"


# normal, shutdown and abnormal termination

TABLE = [
    ("permanent", NORMAL, "running"), ("permanent", SHUTDOWN, "running"), ("permanent", CRASH, "running"),
    ("permanent", KILLED, "running"), ("transient", NORMAL, "down"), ("transient", SHUTDOWN, "down"),
    ("transient", CRASH, "running"), ("transient", KILLED, "running"), ("temporary", NORMAL, None),
    ("temporary", SHUTDOWN, None), ("temporary", CRASH, None), ("temporary", KILLED, None),
]  # fmt: skip


@pytest.mark.parametrize(("restart", "exit", "then"), TABLE, ids=str)
async def test_permanent_transient_temporary_by_normal_shutdown_abnormal(
    stage: Stage, restart: Any, exit: Any, then: str | None
) -> None:
    async with stage.supervisor(stage.spec("a", restart=restart)) as supervisor:
        before = stage.puppets["a"]
        before.end(exit)
        await supervisor.settled()
        assert states(supervisor) == ({"a": then} if then else {})
        assert (stage.puppets["a"] is not before) == (then == "running")
        assert supervisor.statistics().restarts == (then == "running")


async def test_temporary_bystander_that_falls_with_its_sibling_is_forgotten(stage: Stage) -> None:
    for strategy in ("one_for_all", "rest_for_one"):
        specs = stage.spec("a"), stage.spec("b", restart="temporary")
        async with stage.supervisor(*specs, strategy=strategy) as supervisor:
            stage.took()
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
            assert stage.took() == ["ask b", "start a"]
            assert states(supervisor) == {"a": "running"}


# restart strategies


async def test_multiple_restarts_of_a_child_that_ends_while_it_is_restarted_are_each_counted(
    stage: Stage,
) -> None:
    async with stage.supervisor(stage.spec("a"), intensity=10) as supervisor:
        for _ in range(10):
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
        assert supervisor.statistics().restarts == 10
        assert states(supervisor) == {"a": "running"}
        stage.puppets["a"].end(CRASH)
        assert "reached_max_restart_intensity" in (await supervisor.wait()).why


@pytest.mark.parametrize(
    ("strategy", "done"),
    [
        ("one_for_one", ["start b"]),
        ("rest_for_one", ["ask c", "start b", "start c"]),
        ("one_for_all", ["ask c", "ask a", "start a", "start b", "start c"]),
    ],
)
async def test_one_for_one_rest_for_one_one_for_all_each_restart_their_own(
    stage: Stage, strategy: Any, done: list[str]
) -> None:
    async with stage.supervisor(*map(stage.spec, "abc"), strategy=strategy) as supervisor:
        stage.took()
        stage.puppets["b"].end(CRASH)
        await supervisor.settled()
        assert stage.took() == done
        assert states(supervisor) == dict.fromkeys("abc", "running")
        assert supervisor.statistics().restarts == 1


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_escalation_ends_the_others_in_reverse_order_and_the_supervisor_as_shutdown(
    stage: Stage, strategy: Any
) -> None:
    supervisor = stage.supervisor(*map(stage.spec, "abc"), strategy=strategy)
    await supervisor.start()
    stage.puppets["b"].end(CRASH)
    await supervisor.settled()
    stage.took()
    stage.puppets["b"].end(CRASH)
    assert (await supervisor.wait()).kind == "shutdown"
    assert stage.took() == ["ask c", "ask a"]
    with pytest.raises(CrashLoop, match="crashed"):
        supervisor.check()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_other_child_fails_restart_and_is_itself_tried_again_which_counts(
    stage: Stage, strategy: Any
) -> None:
    async with stage.supervisor(*map(stage.spec, "abc"), strategy=strategy, intensity=2) as supervisor:
        stage.took()
        stage.failing["c"] = 1
        stage.puppets["b"].end(CRASH)
        await supervisor.settled()
        first = ["start a"] if strategy == "one_for_all" else []
        again = ["ask b", "ask a", "start a", "start b", "start c"] if first else ["start c"]
        assert stage.took() == ["ask c", *(["ask a"] if first else []), *first, "start b", "fail c", *again]
        assert states(supervisor) == dict.fromkeys("abc", "running")
        assert supervisor.statistics().restarts == 2


async def test_simple_one_for_one_restarts_only_the_dead_one_with_its_own_arguments(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("w"), strategy="simple_one_for_one") as supervisor:
        ids = [await supervisor.start_child(each) for each in (1, 2)]
        stage.took()
        stage.puppets["w2"].end(CRASH)
        await supervisor.settled()
        assert stage.took() == ["start w2"]
        assert stage.given[-1] == (2,)
        assert list(states(supervisor)) == ids


async def test_simple_one_for_one_shutdown_asks_all_at_once_with_one_timer(stage: Stage) -> None:
    stage.deaf = {f"w{each}" for each in range(20)}
    supervisor = stage.supervisor(stage.spec("w", shutdown=0.2), strategy="simple_one_for_one")
    await supervisor.start()
    for each in range(20):
        await supervisor.start_child(each)
    stage.took()
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 20 * 0.2 / 2
    assert [word.split()[0] for word in stage.took()] == ["ask"] * 20 + ["kill"] * 20


async def test_simple_one_for_one_escalation_ends_all(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.spec("w"), strategy="simple_one_for_one", intensity=0)
    await supervisor.start()
    for each in (1, 2):
        await supervisor.start_child(each)
    stage.puppets["w1"].end(CRASH)
    assert (await supervisor.wait()).kind == "shutdown"
    assert stage.took()[2:] == ["ask w2"]


async def test_simple_one_for_one_restart_ignore_forgets_the_child(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("w"), strategy="simple_one_for_one") as supervisor:
        await supervisor.start_child(1)
        stage.ignoring.add("w1")
        stage.puppets["w1"].end(CRASH)
        await supervisor.settled()
        assert states(supervisor) == {}


# significant children


@pytest.mark.parametrize(
    ("rule", "exits", "over"),
    [
        ("any_significant", [("t", NORMAL)], True),
        ("any_significant", [("u", CRASH)], True),
        ("any_significant", [("t", CRASH)], False),
        ("any_significant", [("n", NORMAL)], False),
        ("all_significant", [("t", NORMAL)], False),
        ("all_significant", [("t", NORMAL), ("u", NORMAL)], True),
        ("all_significant", [("n", NORMAL), ("u", CRASH)], False),
    ],
)
async def test_significant_transient_temporary_nonsignificant_end_it_by_the_rule(
    stage: Stage, rule: Any, exits: list[Any], over: bool
) -> None:
    specs = (
        stage.spec("t", restart="transient", significant=True),
        stage.spec("u", restart="temporary", significant=True),
        stage.spec("n", restart="temporary"),
    )
    async with stage.supervisor(*specs, auto_shutdown=rule) as supervisor:
        for id, exit in exits:
            stage.puppets[id].end(exit)
            await supervisor.settled()
        assert (supervisor.statistics().state == "over") == over
        if over:
            assert (await supervisor.wait()).why.startswith("auto_shutdown")
            supervisor.check()


async def test_significant_simple_any_and_all(stage: Stage) -> None:
    for rule, ends in (("any_significant", 1), ("all_significant", 3)):
        spec = stage.spec("w", restart="temporary", significant=True)
        supervisor = stage.supervisor(spec, strategy="simple_one_for_one", auto_shutdown=rule)
        await supervisor.start()
        for each in range(3):
            await supervisor.start_child(each)
        for each in range(ends):
            assert supervisor.statistics().state == "running"
            stage.puppets[f"w{each}"].end(NORMAL)
            await supervisor.settled()
        assert (await supervisor.wait()).why.startswith("auto_shutdown")


async def test_significant_bystander_and_terminate_child_do_not_end_it(stage: Stage) -> None:
    specs = stage.spec("a"), stage.spec("s", restart="temporary", significant=True)
    async with stage.supervisor(
        *specs, strategy="one_for_all", auto_shutdown="any_significant"
    ) as supervisor:
        stage.puppets["a"].end(CRASH)
        await supervisor.settled()
        assert states(supervisor) == {"a": "running"}
        await supervisor.start_child(stage.spec("s", restart="transient", significant=True))
        await supervisor.terminate_child("s")
        assert states(supervisor) == {"a": "running", "s": "down"}


async def test_all_significant_counts_one_that_is_being_restarted_as_alive(stage: Stage) -> None:
    gate = asyncio.Event()

    async def later(seconds: float) -> None:
        await gate.wait()

    from terraphim_rlm.supervision.spec import Backoff

    specs = [stage.spec(name, restart="transient", significant=True) for name in "ab"]
    flags = {"auto_shutdown": "all_significant", "backoff": Backoff(1.0), "later": later}
    async with stage.supervisor(*specs, **flags) as supervisor:
        stage.puppets["a"].end(CRASH)
        stage.puppets["b"].end(NORMAL)
        await supervisor.settled()
        assert states(supervisor) == {"a": "restarting", "b": "down"}
        gate.set()
        while states(supervisor)["a"] != "running":
            await asyncio.sleep(0)
        stage.puppets["a"].end(NORMAL)
        assert (await supervisor.wait()).why == "auto_shutdown: a"


async def test_significant_escalation_a_supervisor_that_ends_is_its_parents_significant_child(
    stage: Stage,
) -> None:
    def inner() -> Supervisor:
        spec = stage.spec("s", restart="transient", significant=True)
        return stage.supervisor(spec, auto_shutdown="any_significant")

    spec = ChildSpec("sub", supervised(inner), type="supervisor", restart="transient", significant=True)
    supervisor = stage.supervisor(spec, stage.spec("b"), auto_shutdown="any_significant")
    await supervisor.start()
    stage.puppets["s"].end(NORMAL)
    assert (await supervisor.wait()).why == "auto_shutdown: sub"
    assert stage.took()[-1] == "ask b"


# the rest


async def test_child_unlink_a_child_that_forgets_its_supervisor_cannot_hang_it(stage: Stage) -> None:
    """It neither answers nor dies: it is given up and reported, and the one before it is ended all the same."""
    stage.deaf, stage.stone = {"b"}, {"b"}
    supervisor = stage.supervisor(stage.spec("a"), stage.spec("b", shutdown=0.01))
    await supervisor.start()
    await supervisor.stop()
    assert stage.took()[2:] == ["ask b", "kill b", "ask a"]
    assert supervisor.statistics().abandoned == 1
    assert [each.child for each in stage.told("abandoned")] == ["b"]


async def test_tree_a_supervisor_that_gives_up_is_restarted_by_its_parent_until_that_gives_up(
    stage: Stage,
) -> None:
    def inner() -> Supervisor:
        return stage.supervisor(stage.spec("a"), intensity=2)

    sub = ChildSpec("sub", supervised(inner), type="supervisor")
    supervisor = stage.supervisor(sub, stage.spec("b"), intensity=2)
    await supervisor.start()
    crashes = 0
    while supervisor.statistics().state == "running":
        puppet = stage.puppets["a"]
        if puppet.ended.done():
            await asyncio.sleep(0)
            continue
        puppet.end(CRASH)
        crashes += 1
        await supervisor.settled()
    assert crashes == 3 * 3  # the product: each of three lives of the inner one bears two
    with pytest.raises(CrashLoop, match="reached_max_restart_intensity"):
        supervisor.check()


async def test_tree_a_transient_supervisor_that_gives_up_is_not_restarted(stage: Stage) -> None:
    def inner() -> Supervisor:
        return stage.supervisor(stage.spec("a"), intensity=0)

    sub = ChildSpec("sub", supervised(inner), type="supervisor", restart="transient")
    async with stage.supervisor(sub, intensity=9) as supervisor:
        stage.puppets["a"].end(CRASH)
        while states(supervisor) != {"sub": "down"}:
            await asyncio.sleep(0)


async def test_count_children_and_count_children_supervisor(stage: Stage) -> None:
    specs = stage.spec("a"), stage.spec("s", type="supervisor"), stage.spec("c", restart="transient")
    async with stage.supervisor(*specs) as supervisor:
        stage.puppets["c"].end(NORMAL)
        await supervisor.settled()
        found = supervisor.count_children()
        assert (found.specs, found.active, found.supervisors, found.workers) == (3, 2, 1, 2)


async def test_count_restarting_children_are_not_active(stage: Stage) -> None:
    waits: list[float] = []
    gate = asyncio.Event()

    async def later(seconds: float) -> None:
        waits.append(seconds)
        await gate.wait()

    from terraphim_rlm.supervision.spec import Backoff

    flags = {"intensity": 10, "backoff": Backoff(0.5, 1.5), "later": later}
    async with stage.supervisor(stage.spec("a"), **flags) as supervisor:
        stage.puppets["a"].end(CRASH)
        await supervisor.settled()
        assert (states(supervisor), supervisor.count_children().active) == ({"a": "restarting"}, 0)
        for refused in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildError) as restarting:
                await refused("a")
            assert await state_of(restarting) == "restarting"
        gate.set()
        while states(supervisor) != {"a": "running"}:
            await asyncio.sleep(0)
        for _ in range(3):
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
            while states(supervisor) != {"a": "running"}:
                await asyncio.sleep(0)
        assert waits == [0.5, 1.0, 1.5, 1.5]


async def test_do_not_save_child_specs_and_start_parameters_for_temporary_children(stage: Stage) -> None:
    async with stage.supervisor() as supervisor:
        for _ in range(3):
            await supervisor.start_child(stage.spec("a", restart="temporary"))
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
            assert states(supervisor) == {}
            with pytest.raises(ChildError):
                supervisor.childspec("a")


async def test_simple_one_for_one_scale_many_temporary_children(stage: Stage) -> None:
    """10,000 at once, ended in one time-out; and 10,000 one after the other leave no memory taken."""
    supervisor = stage.supervisor(stage.spec("w", restart="temporary"), strategy="simple_one_for_one")
    await supervisor.start()
    stage.log = Deaf()
    for each in range(10_000):
        await supervisor.start_child(each)
    assert supervisor.count_children().active == 10_000
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 6

    async def passed(count: int) -> int:
        async def start(number: int) -> Child:
            return Puppet("w", Deaf())

        spec = ChildSpec("w", start, restart="temporary")
        async with Supervisor([spec], Flags(strategy="simple_one_for_one")) as many:
            for each in range(count):
                await many.start_child(each)
                child = next(iter(many._kept.slots.all())).child
                assert child is not None
                child.over(NORMAL)
                await many.settled()
            return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        await passed(50)
        few, most = await passed(500), await passed(3000)
    finally:
        tracemalloc.stop()
    assert most - few < 200_000


class Deaf(list[str]):
    def append(self, _: str) -> None: ...


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all", "simple_one_for_one"])
async def test_hanging_restart_loop_serves_calls_in_between_and_can_be_ended(
    stage: Stage, strategy: Any
) -> None:
    """A child that never starts again, with more retries allowed than the test could see: calls get their turn."""
    supervisor = stage.supervisor(stage.spec("a"), strategy=strategy, intensity=10**9)
    await supervisor.start()
    name, id = ("a", "a")
    if strategy == "simple_one_for_one":
        found = await supervisor.start_child(1)
        assert found is not None
        name, id = "a1", found
    stage.failing[name] = 10**9
    stage.puppets[name].end(CRASH)
    while supervisor.statistics().restarts < 100:
        await asyncio.sleep(0)
    assert states(supervisor)[id] == "restarting"
    if strategy != "simple_one_for_one":
        with pytest.raises(ChildError):
            await supervisor.restart_child(id)
    await supervisor.terminate_child(id)
    assert states(supervisor).get(id, "down") == "down"
    await supervisor.settled()
    seen = supervisor.statistics().restarts
    await supervisor.settled()
    assert supervisor.statistics().restarts == seen
    await supervisor.stop()


async def test_hanging_restart_loop_ends_at_the_intensity_when_nobody_interferes(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.spec("a"), intensity=7)
    await supervisor.start()
    stage.failing["a"] = 100
    stage.puppets["a"].end(CRASH)
    await supervisor.wait()
    assert stage.took() == ["start a", *["fail a"] * 7]


async def test_order_of_children_is_start_order_and_which_children_gives_the_last_first(stage: Stage) -> None:
    async with stage.supervisor(*map(stage.spec, "abc")) as supervisor:
        await supervisor.start_child(stage.spec("d"))
        assert [info.id for info in supervisor.which_children()] == list("dcba")
        await supervisor.terminate_child("b")
        await supervisor.restart_child("b")
        assert [info.id for info in supervisor.which_children()] == list("dcba")
        stage.took()
    assert stage.took() == ["ask d", "ask c", "ask b", "ask a"]


async def test_scale_start_stop_many_children_costs_the_same_for_each(stage: Stage) -> None:
    async def seconds(count: int) -> float:
        stage.log = Deaf()
        began = time.process_time()
        async with stage.supervisor() as supervisor:
            for each in range(count):
                await supervisor.start_child(stage.spec(f"c{each}"))
            for each in range(count):
                await supervisor.terminate_child(f"c{each}")
                await supervisor.delete_child(f"c{each}")
        return time.process_time() - began

    ratios = [(await seconds(2000)) / (await seconds(200)) for _ in range(3)]
    assert min(ratios) < 40  # ten times as many; a quadratic one would take a hundred times as long


async def test_every_refusal_is_of_our_own_tree_and_names_a_fix() -> None:
    for error in (ChildError("x", state="down"), CrashLoop("x")):
        assert isinstance(error, RlmError)
        assert error.fix
