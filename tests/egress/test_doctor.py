"""`trlm doctor` says what an operator has opened."""

from __future__ import annotations

import pytest

from terraphim_rlm.core.values import Check
from terraphim_rlm.sandbox.backends.bubblewrap import doctor

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def network() -> Check:
    (found,) = [check for check in await doctor.checks() if check.id == "network"]
    return found


async def test_the_doctor_shows_what_the_operator_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "TRLM_EGRESS_PRIVATE", "TRLM_EGRESS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await network()).evidence == "off, unless names are allowed"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    assert (await network()).status == "warn"
    monkeypatch.setenv("TRLM_EGRESS_PRIVATE", "index.example.internal:443")
    monkeypatch.setenv("TRLM_EGRESS_PROXY", "http://proxy.example:3128")
    found = await network()
    assert found.status == "ok"
    assert "index.example.internal:443" in found.evidence
    assert "proxy.example:3128" in found.evidence
    monkeypatch.setenv("TRLM_EGRESS_PROXY", "socks://x")
    assert (await network()).status == "fail"
