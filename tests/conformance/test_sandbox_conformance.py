"""The bubblewrap sandbox passes every case of the public suite; what is skipped, its own capabilities lack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from terraphim_rlm.testing.conformance import Target
from terraphim_rlm.testing.conformance.plugin import (  # noqa: F401 - what pytest looks for in a test module
    conformance,
    conformance_case,
    pytest_generate_tests,
)
from terraphim_rlm.testing.conformance.targets import opened

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def conformance_target(anyio_backend: str) -> AsyncIterator[Target]:
    async with opened("bubblewrap") as target:
        yield target


async def test_a_sandbox(conformance_case: Callable[[], Awaitable[None]]) -> None:  # noqa: F811
    await conformance_case()
