"""The door of a run: who knocks is answered, and nobody at it can hold the run up."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import RunUnreachable
from terraphim_rlm.service.door import Door, door_of, knock

pytestmark = pytest.mark.anyio
RUN = "run-of-a-test"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def visitor(said: bytes = b"") -> socket.socket:
    """Somebody who has knocked, and has said that much."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(door_of(RUN)))
    sock.sendall(said)
    return sock


async def test_a_visitor_who_says_nothing_does_not_keep_a_run_from_ending() -> None:
    async with asyncio.timeout(30):
        async with Door(RUN, lambda: None) as door:
            visitors = [visitor(b""), visitor(b"canc")]
            reader, writer = await asyncio.open_unix_connection(str(door_of(RUN)))
            writer.write(b"stop\n")
            assert await reader.read() == b""  # those before have been let in by then
            writer.close()
            door.ended()
    for each in visitors:
        each.close()
    assert not door_of(RUN).exists()


async def test_who_asks_is_told_when_the_run_has_ended_beside_many_who_are_silent() -> None:
    stopped = asyncio.Event()
    async with asyncio.timeout(60):
        async with Door(RUN, stopped.set) as door:
            silent = [visitor() for _ in range(90)]
            asking = asyncio.ensure_future(knock(RUN, 50))
            await stopped.wait()
            assert not asking.done()
            door.ended()
        await asking
    for each in silent:
        each.close()


async def test_a_door_that_closes_leaves_the_door_of_another_process_where_it_is() -> None:
    async with Door(RUN, lambda: None):
        async with Door(RUN, lambda: None):
            pass
        assert not door_of(RUN).exists()
    stopped = asyncio.Event()
    replay = Door(RUN, lambda: None)
    await replay.__aenter__()
    async with asyncio.timeout(60), Door(RUN, stopped.set) as door:
        await replay.__aexit__(None, None, None)
        asking = asyncio.ensure_future(knock(RUN, 50))
        await stopped.wait()
        door.ended()
        await asking


async def test_a_door_is_its_owners_alone_and_what_is_said_wrongly_at_it_stops_nothing() -> None:
    stopped: list[int] = []
    async with asyncio.timeout(30), Door(RUN, lambda: stopped.append(1)):
        for folder in (door_of(RUN).parent, door_of(RUN).parent.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for said in (b"stop\n", b"\x00\xff\n", b"cancel \n", b"CANCEL\n"):
            reader, writer = await asyncio.open_unix_connection(str(door_of(RUN)))
            writer.write(said)
            assert await reader.read() == b""
            writer.close()
    assert stopped == []
    with pytest.raises(RunUnreachable):
        await knock(RUN, 5)


async def test_no_door_is_made_in_a_folder_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    door_of(RUN).parent.parent.symlink_to(tmp_path / "elsewhere")
    async with Door(RUN, lambda: None):  # the run works without one
        assert not door_of(RUN).exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
