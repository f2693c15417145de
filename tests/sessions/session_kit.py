"""A place where sessions live, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.sessions import NewSession, Sessions
from terraphim_rlm.store.journal import Journal


@asynccontextmanager
async def house(clock: Any = None, **options: Any) -> AsyncIterator[Sessions]:
    with Journal() as journal:
        async with Sessions(journal, clock=clock or ManualClock(), **options) as sessions:
            yield sessions


async def new(sessions: Sessions, name: str | None = None) -> str:
    return (await sessions.create(NewSession(name=name))).id


async def said(sessions: Sessions, session: str, code: str, language: str = "python") -> str:
    result = await sessions.execute(session, Execution(code, language))
    assert result.status == "ok", result
    return result.stdout
