"""Group K, the pool: what is handed out has never been used, is never too old, and comes in turn."""

from __future__ import annotations

import asyncio

from terraphim_rlm.core.clock import SYSTEM_CLOCK, ManualClock
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.model import PRELUDE, Row
from terraphim_rlm.testing.attack.stage import Stage

_CYCLES = 24
_CALLERS = 20
_STARTS = 2

_DIRTY = """
import subprocess
mine = "of the last tenant"
for place in ("/work", "/tmp", "/dev/shm"):
    with open(place + "/left-behind", "w") as file: file.write(mine)
os.environ["LEFT_BEHIND"] = mine
subprocess.Popen(["sleep", "86399"], start_new_session=True)
"""
_LOOK = """
found = [place for place in ("/work", "/tmp", "/dev/shm") if os.path.exists(place + "/left-behind")]
found += [name for name in ("mine",) if name in globals()] + [name for name in ("LEFT_BEHIND",) if name in os.environ]
found += [n for n in os.listdir("/proc") if n.isdigit() and b"86399" in read(f"/proc/{n}/cmdline")]
if found: harm("was handed out used:", found)
print(os.stat("/proc/self/ns/pid").st_ino)
"""


def _pool(stage: Stage, config: PoolConfig, clock: ManualClock | None = None) -> Pool:
    async def make() -> Sandbox:
        box = stage.box()
        await box.start()
        return box

    return Pool(make, config, clock=clock or SYSTEM_CLOCK)


async def is_handed_out_again(stage: Stage) -> None:
    """K15: each caller spoils what he got, in every way there is; the next one finds nothing of it."""
    async with _pool(stage, PoolConfig(min=1, target=2, max=3)) as pool:
        for _ in range(_CYCLES):
            box = await pool.take()
            try:
                looked = await box.run(PRELUDE + _LOOK)
                for line in looked.stdout.splitlines():
                    if line.startswith("HARM "):
                        stage.harm(line[5:])
                await box.run(PRELUDE + _DIRTY)
            finally:
                await box.close()
            if stage.harms:
                return


async def is_asked_for_at_once(stage: Stage) -> None:
    """K16: five times as many callers as it holds: each gets one, in turn, and no more start at once than may."""
    order: list[int] = []
    most = 0

    async def calls(number: int, pool: Pool) -> None:
        nonlocal most
        box = await pool.take()
        order.append(number)
        most = max(most, pool.statistics().starting)
        try:
            found = await box.run(f"print({number})", timeout=30)
            stage.expect(found.stdout == f"{number}\n", f"caller {number} got {found.stdout!r}")
        finally:
            await box.close()

    config = PoolConfig(min=0, target=2, max=4, starts=_STARTS, wait_seconds=None)
    async with _pool(stage, config) as pool:
        await asyncio.gather(*(calls(number, pool) for number in range(_CALLERS)))
        said = pool.statistics()
        stage.expect(order == sorted(order), f"callers were served in the order {order}")
        stage.expect(most <= _STARTS, f"{most} sandboxes started at once")
        stage.expect(
            said.handed_out == _CALLERS and not said.refused,
            f"{said.handed_out} were served, {said.refused} refused",
        )


async def grows_old(stage: Stage) -> None:
    """K17: a day passes by the pool's clock; what stood ready is ended, and a fresh one is handed out."""
    clock = ManualClock()
    made: list[Sandbox] = []
    async with _pool(stage, PoolConfig(min=1, target=2, max=2), clock) as pool:
        pool.warm()
        await pool.wait_ready()
        before = pool.statistics()
        clock.advance(86_400)
        made.append(await pool.take())
        after = pool.statistics()
        stage.expect(before.ready == 2, f"{before.ready} stood ready")
        stage.expect(
            after.discarded.get("old") == 2, f"of two that were old, discarded: {dict(after.discarded)}"
        )
        found = await made[0].run("print(42)")
        stage.expect(found.stdout == "42\n", "the fresh one does not work")
        await made[0].close()


ROWS = (
    Row("K15", "P0", "is handed out again after it was used", act=is_handed_out_again, off=("used-once",)),
    Row("K16", "P1", "asks for five times as many as are ready", act=is_asked_for_at_once, most=120.0),
    Row("K17", "P1", "waits ready for a day, or through an update", act=grows_old),
)  # fmt: skip
