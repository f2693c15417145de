"""One real sandbox for all tests of a module that leave it usable."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from terraphim_rlm import Sandbox, open_sandbox


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with open_sandbox("bubblewrap") as sandbox:
        yield sandbox
