"""What `trlm doctor` says of the embedded sandbox: each line from a look or a trial, none from hope."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from importlib.util import find_spec

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import Check, ExecutorCapabilities
from terraphim_rlm.guest.missing import installed
from terraphim_rlm.sandbox.backends.bubblewrap import delegation, diagnosis, host, limits, seccomp
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.egress import settings
from terraphim_rlm.sandbox.egress.names import shown

_MOST_NAMED = 30


async def checks() -> list[Check]:
    """Every check, in the order in which they build on each other. Starts two sandboxes and a zygote; about 0.4 seconds."""
    found = [_programs(), _namespaces(), _filter(), _python(), _packages()]
    async with Bubblewrap() as backend:
        try:
            capabilities = await backend.probe()
        except RlmError as error:
            return [*found, Check("sandbox", "fail", error.message, error.fix)]
        groups = backend.statistics().control_groups
        fix = ""
        if capabilities.not_enforced:
            fix = delegation.advice(await asyncio.to_thread(delegation.facts))
        return [
            *found,
            _trial(backend, capabilities),
            _zygote(await backend.zygote()),
            _groups(groups, fix),
            *_limits(capabilities),
            _not_enforced(capabilities, fix),
            _network(capabilities),
        ]


def _programs() -> Check:
    try:
        found = host.bwraps(host.drop_uid())
    except RlmError as error:
        return Check("bwrap", "fail", error.message, error.fix)
    if found:
        return Check("bwrap", "ok", ", ".join(found))
    cause = diagnosis.diagnose(diagnosis.Facts(has_bwrap=False))
    assert cause is not None
    return Check("bwrap", "fail", cause.message, cause.fix)


def _namespaces() -> Check:
    facts = diagnosis.facts()
    cause = diagnosis.diagnose(facts)
    seen = (
        f"max_user_namespaces={facts.max_user_namespaces}, unprivileged_userns_clone={facts.userns_clone}, "
        f"apparmor_restrict_unprivileged_userns={facts.apparmor_restricts}, container={facts.in_container}"
    )
    if cause is None or not cause.id.startswith("userns"):
        return Check("user-namespaces", "ok", seen)
    return Check(
        "user-namespaces", "warn" if facts.is_root else "fail", f"{cause.message} ({seen})", cause.fix
    )


def _filter() -> Check:
    try:
        size = len(seccomp.program()) // 8
    except RlmError as error:
        return Check("seccomp", "fail", error.message, error.fix)
    return Check("seccomp", "ok", f"filter of {size} instructions")


def _python() -> Check:
    try:
        uid = host.drop_uid()
        python = host.guest_python(uid)
    except RlmError as error:
        return Check("guest-python", "fail", error.message, error.fix)
    reader = "this user" if uid is None else f"uid {uid}"
    version = ".".join(map(str, python.version))
    return Check("guest-python", "ok", f"{python.path} {version}, readable by {reader}")


def _packages() -> Check:
    """Looks where the guest's Python looks: the same folders lie at the same places in the sandbox."""
    try:
        python = host.guest_python(host.drop_uid())
    except RlmError:
        return Check(
            "guest-packages", "warn", "none: there is no Python for the sandbox", "See guest-python."
        )
    library = f"{python.prefix}/lib/python{python.version[0]}.{python.version[1]}/site-packages"
    found: list[str] = installed(  # type: ignore[no-untyped-call]
        [library, "/usr/lib/python3/dist-packages"]
    )
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    seen = f"{', '.join(found[:_MOST_NAMED])}{more}" if found else "none but the standard library"
    adding = (
        "fetched with pip" if find_spec("pip") else "not to be had: pip is not installed beside this program"
    )
    return Check("guest-packages", "ok", f"{seen}; others by --packages, {adding}")


def _trial(backend: Bubblewrap, capabilities: ExecutorCapabilities) -> Check:
    version = capabilities.versions["bwrap"]
    milliseconds = capabilities.cold_start_estimate * 1000
    return Check("sandbox", "ok", f"{backend.bwrap} {version} made one in {milliseconds:.0f} ms")


def _zygote(lacking: str) -> Check:
    if not lacking:
        return Check("zygote", "ok", "ordinary sandboxes after the first are forked from one process")
    fix = "Nothing is lost but time: each sandbox is made by bubblewrap."
    return Check("zygote", "warn", f"none: {lacking[:300]}", fix)


def _groups(groups: Mapping[str, int], fix: str) -> Check:
    if groups:
        seen = ", ".join(f"{name} (version {version})" for name, version in sorted(groups.items()))
        return Check("control-groups", "ok", seen)
    return Check("control-groups", "warn", "none that this user may divide", fix)


def _limits(capabilities: ExecutorCapabilities) -> list[Check]:
    """One check a limit; what is held less than it could be is a warning, never silence."""
    return [_limit(name, held) for name, held in sorted(capabilities.limits.items())]


def _limit(name: str, held: str) -> Check:
    if held == limits.BEST[name]:
        return Check(f"limit-{name}", "ok", held)
    return Check(f"limit-{name}", "warn", held if held != "none" else "not enforced", "See not-enforced.")


def _not_enforced(capabilities: ExecutorCapabilities, fix: str) -> Check:
    """The list of what this user does not get."""
    if not capabilities.not_enforced:
        return Check("not-enforced", "ok", "nothing: every limit is held for the sandbox as a whole")
    return Check("not-enforced", "warn", f"no delegation. {'. '.join(capabilities.not_enforced)}.", fix)


def _network(capabilities: ExecutorCapabilities) -> Check:
    """What the operator has opened to sandboxes that allow it; by itself, none reaches anything."""
    if not capabilities.supports_network:
        return Check("network", "warn", "sandboxes cannot be given one here", "Leave out --allow.")
    try:
        operator = settings.read()
    except RlmError as error:
        return Check("network", "fail", error.message, error.fix)
    seen = ["off, unless names are allowed"]
    if operator.private:
        hosts = ", ".join(sorted(f"{shown(host)}:{port}" for host, port in operator.private))
        seen.append(f"whatever their address ({settings.PRIVATE}): {hosts}")
    if operator.upstream:
        host, port = operator.upstream
        seen.append(f"through {shown(host)}:{port} ({settings.UPSTREAM}), where addresses are not checked")
    elif any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        fix = f"If hosts are reached through it only, set {settings.UPSTREAM} as well; see docs/network.md."
        return Check("network", "warn", f"{'; '.join(seen)}; HTTPS_PROXY is set, and not used", fix)
    return Check("network", "ok", "; ".join(seen))
