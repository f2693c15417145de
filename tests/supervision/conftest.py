from __future__ import annotations

import pytest
from puppets import Stage


@pytest.fixture
async def stage() -> Stage:
    return Stage()
