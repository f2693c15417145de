"""A host that has run out of descriptors: whatever is asked works or is refused, and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from terraphim_rlm import Resources, Sandbox
from terraphim_rlm.core.errors import SandboxBusy
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.testing.attack import narrow

SPEC = SandboxSpec(Resources())


@pytest.fixture(params=[True, False], ids=["forked", "not forked"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Bubblewrap]:
    async with Bubblewrap(forks=request.param) as backend:
        async with Sandbox(backend, SPEC):
            assert await backend.zygote() == ("" if request.param else "not asked for")
        yield backend


async def test_whatever_is_asked_with_little_room_works_or_is_refused_and_leaves_nothing(
    backend: Bubblewrap,
) -> None:
    assert await narrow.tried(lambda: Sandbox(backend, SPEC)) == []


async def test_the_first_start_of_all_is_refused_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_SETTLE_SECONDS", 0.1)
    before = narrow.descriptors()
    climb = narrow.Climb()
    async with Bubblewrap() as backend:
        box = Sandbox(backend, SPEC)
        await climb("a first start", box.start)
        assert (await box.run("print(42)")).stdout == "42\n"
        await box.close()
        assert await backend.zygote() == "", "want of room at the first start must not cost the zygote"
    assert climb.refused > 3
    assert [wrong for wrong in climb.wrongs if "it left" not in wrong] == []  # the keeper stands from then on
    assert len(narrow.descriptors()) <= len(before)


def test_holes_in_the_table_of_descriptors_give_no_further_room() -> None:
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(20)]
    try:
        for fd in held[:19]:
            os.close(fd)
        with narrow.room_for(2), Room() as room:
            room.pipe()
            with pytest.raises(SandboxBusy, match="Too many open files") as refused:
                room.null()
        assert "ulimit -n" in refused.value.fix
    finally:
        os.close(held[19])


async def test_an_operation_that_leaves_a_descriptor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_SETTLE_SECONDS", 0.1)
    left: list[int] = []

    async def leaks() -> None:
        left.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        with Room() as room:
            room.pipe()

    climb = narrow.Climb()
    try:
        await climb("a leak", leaks)
    finally:
        for fd in left:
            os.close(fd)
    raw = "a leak, with room for 0 descriptors: OSError: [Errno 24] Too many open files: '/dev/null'"
    assert climb.wrongs[0] == raw
    assert climb.wrongs[1] == "a leak, with room for 1 descriptors: it left copies of descriptors"
