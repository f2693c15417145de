"""Each case as a pytest test of its name.

A test module imports three names from here, gives a module-scoped fixture `conformance_target`, and has one test:

    from terraphim_rlm.testing.conformance.plugin import conformance, conformance_case, pytest_generate_tests

    @pytest.fixture(scope="module")
    def conformance_target(): return Target("mine", open_mine)

    @pytest.mark.anyio
    async def test_mine(conformance_case): await conformance_case()

Not an entry point of pytest: every run of every project would load it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from terraphim_rlm.testing.conformance import Case, Conformance, Target, cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case."""
    if "conformance_case" in metafunc.fixturenames:
        metafunc.parametrize("conformance_case", cases(), indirect=True, ids=lambda case: case.name)


@pytest.fixture(scope="module")
async def conformance(conformance_target: Target, anyio_backend: object) -> AsyncIterator[Conformance]:
    """The target under test, for all cases of a module."""
    async with Conformance(conformance_target) as entered:
        yield entered


@pytest.fixture
def conformance_case(
    request: pytest.FixtureRequest, conformance: Conformance
) -> Callable[[], Awaitable[None]]:
    """Runs its case: returns when it passed, skips with what the target lacks, fails with what was wrong."""
    case: Case = request.param

    async def run() -> None:
        outcome = await conformance.run(case)
        if outcome.verdict == "skipped":
            pytest.skip(outcome.why)
        if outcome.verdict == "failed":
            raise AssertionError(outcome.why) from outcome.error

    return run
