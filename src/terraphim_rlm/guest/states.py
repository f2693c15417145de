"""The steps of a cell's interpreter to a frozen one and on from it: see frames.py for what is asked and answered."""

import json
import os

from . import freeze as frozen
from . import inventory

_MOST_NAMES = 1000


def park(cell, body):
    """Leaves the sandbox's files, and says what a frozen one could not keep."""
    asked = json.loads(body)
    problems = inventory.unkept(asked["roots"], set(asked["known"]), _idle_loop(cell))
    cell.parked = frozen.Parked()
    problems += cell.parked.leave(asked["roots"])
    own = [
        name
        for name in cell.namespace
        if isinstance(name, str)
        and not name.startswith("_")
        and name not in cell.helpers
        and name != "answer"
    ]
    return {"problems": problems, "variables": sorted(own)[:_MOST_NAMES]}


def freeze(cell, _body):
    """Forks the frozen one; None in each interpreter that is later made from it, which has nothing to answer."""
    control = cell.channel.take_fd()
    pid = frozen.freeze(cell, control)
    if pid is None:
        return None
    os.close(control)
    return {"pid": pid}


def enter(cell, _body):
    """Takes up the files again."""
    parked, cell.parked = cell.parked, None
    if parked is not None:
        parked.enter()
    return {}


def _idle_loop(cell):
    """The cells' event loop if tasks wait on it; one that is idle is closed, and made anew by the next `await`."""
    loop = cell.loop
    if loop is None:
        return None
    import asyncio

    if loop.is_closed() or not asyncio.all_tasks(loop):
        loop.close()
        cell.loop = None
        return None
    return loop
