"""From `Resources.network` to a gateway that serves."""

from __future__ import annotations

from collections.abc import Callable

from terraphim_rlm.core.errors import SandboxStartFailed
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import GuestLink
from terraphim_rlm.sandbox.egress import settings
from terraphim_rlm.sandbox.egress.gateway import Gateway, doors
from terraphim_rlm.sandbox.egress.records import Tell
from terraphim_rlm.sandbox.egress.rules import allowlist


async def opened(link: GuestLink, resources: Resources, receiver: Callable[[], Tell]) -> Gateway:
    """The gateway of a guest in which no code runs yet; see `Gateway`.

    Raises:
        InvalidArgument, ConfigInvalid: what is allowed, or the operator's settings, cannot be read.
        SandboxStartFailed: nothing can listen inside this sandbox.
    """
    allowed, operator = allowlist(resources.network), settings.read()
    try:
        sockets = await link.doors(doors(allowed))
    except OSError as error:
        raise SandboxStartFailed(
            f"The sandbox could not be given a network: {error.strerror}.",
            fix="Leave the allowed names out; without them a sandbox needs none of this.",
        ) from error
    return Gateway(allowed, sockets, operator, resources.network_mb << 20, receiver)
