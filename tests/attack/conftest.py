"""A laboratory and a harness for each file of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.lab import Lab


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
async def harness(lab: Lab, anyio_backend: str) -> AsyncIterator[Harness]:
    async with Harness(lab) as made:
        yield made
