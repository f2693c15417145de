"""Opening, closing, and what is left to do with a sandbox that is closed; what it says of itself."""

from __future__ import annotations

import asyncio
import json

from terraphim_rlm.core.errors import SandboxLost
from terraphim_rlm.core.values import to_json
from terraphim_rlm.testing.conformance.checks import begun, holds, like, refused, same, speaking, within
from terraphim_rlm.testing.conformance.model import Box, Group, Opener, Work

LIFECYCLE = Group("lifecycle")
CAPABILITIES = Group("capabilities")


@LIFECYCLE.opening()
async def a_closed_sandbox_refuses_by_name(open_box: Opener) -> None:
    async with open_box() as box:
        await box.run("x = 1")
        await box.close()
        works: tuple[Work, ...] = (
            lambda: box.run("1"),
            lambda: box.run("true", "bash"),
            lambda: box.sh("true"),
        )
        for work in works:
            error = await within(5, refused(work(), SandboxLost), "a call on a closed sandbox")
            holds(getattr(error, "fix", ""), "the error names a fix")


@LIFECYCLE.opening()
async def closing_twice_and_at_once_is_the_same_as_once(open_box: Opener) -> None:
    async with open_box() as box:
        await box.run("1")
        await within(10, asyncio.gather(box.close(), box.close(), box.close()), "closing")
        await within(5, box.close(), "closing again")


@LIFECYCLE.opening()
async def closing_ends_what_runs_and_tells_its_callers(open_box: Opener) -> None:
    async with open_box() as box:
        code = "print('go', flush=True)\nwhile True: pass"
        python = await speaking(lambda hear: box.run(code, timeout=None, on_output=hear))
        shell = begun(box.sh("sleep 60", timeout=None))
        queued = begun(box.run("1", timeout=None))
        await asyncio.sleep(0.05)
        await within(10, box.close(), "closing")
        ends = await within(10, asyncio.gather(python, shell, queued, return_exceptions=True), "the callers")
    for end in ends:
        status = getattr(end, "status", "")
        told = isinstance(end, SandboxLost) or status in ("killed", "cancelled")
        holds(told, f"a caller of a closed sandbox got {end!r}")


@LIFECYCLE.opening()
async def an_error_in_the_block_closes_the_sandbox_and_comes_out(open_box: Opener) -> None:
    kept: list[Box] = []

    async def work() -> None:
        async with open_box() as box:
            kept.append(box)
            await box.run("1")
            raise LookupError("in the block")

    await refused(work(), LookupError)
    await within(5, refused(kept[0].run("1"), SandboxLost), "a call on the sandbox")


@LIFECYCLE.opening(seconds=60)
async def twenty_sandboxes_one_after_another_all_work(open_box: Opener) -> None:
    for n in range(20):
        async with open_box() as box:
            like(await box.run(f"print({n})"), stdout=f"{n}\n")


@LIFECYCLE.opening()
async def a_sandbox_that_never_worked_closes(open_box: Opener) -> None:
    async with open_box():
        pass


@CAPABILITIES.shared()
async def capabilities_are_plain_and_complete(box: Box) -> None:
    told = box.capabilities
    holds(
        told.isolation_level in ("vm", "user_space_kernel", "container", "namespaces"), told.isolation_level
    )
    holds(told.backend and told.cold_start_estimate > 0, "a backend has a name, and its start takes time")
    holds({"python", "bash"} <= set(told.languages), "every sandbox runs python and bash")
    holds({"memory", "pids", "cpu", "disk"} <= set(told.limits), f"{sorted(told.limits)} lacks a limit")
    words = ("kernel-group", "per-process", "watched", "none")
    holds(all(value in words for value in told.limits.values()), f"{told.limits} is in other words")
    json.loads(json.dumps(to_json(told)))


@CAPABILITIES.shared()
async def snapshots_are_claimed_by_language_in_four_words(box: Box) -> None:
    told = box.capabilities
    words = ("none", "files", "files+interpreter", "full")
    holds(all(value in words for value in told.supports_snapshots.values()), f"{told.supports_snapshots}")
    holds(set(told.supports_snapshots) <= set(told.languages), "snapshots are claimed of languages it runs")


@CAPABILITIES.opening()
async def capabilities_are_the_same_for_every_sandbox_of_a_kind(open_box: Opener) -> None:
    async with open_box() as one, open_box() as two:
        same(one.capabilities.languages, two.capabilities.languages, "the languages of the second")
        same(dict(one.capabilities.limits), dict(two.capabilities.limits), "the limits of the second")
