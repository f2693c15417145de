"""What requests may hold. Strict: another type, an unknown field, NaN or half a surrogate pair is refused."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Resources
from terraphim_rlm.guard.judging import GuardMode
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.sessions import NewSession

_DEFAULT = Resources()
_MOST_OUTPUT = 67_108_864
"""Bytes of each stream of an execution that the daemon holds until its client has read them."""
_MOST_VARIABLES = 1_000

Name = Annotated[str, Field(max_length=80)]
Host = Annotated[str, Field(max_length=300)]
Package = Annotated[str, Field(max_length=200)]
Path = Annotated[str, Field(max_length=4096)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ResourcesBody(Body):
    """By the names and defaults of `Resources`."""

    memory_mb: int = _DEFAULT.memory_mb
    cpus: float = _DEFAULT.cpus
    pids: int = _DEFAULT.pids
    disk_mb: int = _DEFAULT.disk_mb
    output_bytes: Annotated[int, Field(le=_MOST_OUTPUT)] = _DEFAULT.output_bytes
    network: Annotated[list[Host], Field(max_length=100)] = []
    network_mb: int = _DEFAULT.network_mb


class WarmBody(Body):
    """How many sandboxes are to stand ready."""

    backend: Name = "auto"
    count: Annotated[int | None, Field(ge=1, le=PoolConfig().max)] = None
    """None = as many as a pool keeps by itself."""


class NewSessionBody(Body):
    """A session to be."""

    name: Name | None = None
    backend: Name = "auto"
    resources: ResourcesBody = ResourcesBody()
    packages: Annotated[list[Package], Field(max_length=100)] = []
    """Python packages, such as `numpy==2.*`; fetched first where they are not here yet."""
    guard: GuardMode = "block"
    """How the rules on its code act."""

    def wanted(self) -> NewSession:
        own: dict[str, Any] = self.resources.model_dump()
        resources = Resources(**{**own, "network": tuple(own["network"])})
        return NewSession(self.backend, resources, tuple(self.packages), self.name, self.guard)


class ExecutionBody(Body):
    """Code to run; see `service.executions.Execution`."""

    code: str
    language: Name = "python"
    timeout: float | None = None
    """Seconds; null = the language's own."""
    stdin: str | None = None
    stdin_base64: str | None = None
    """Standard input that is no text."""
    env: Annotated[dict[str, str], Field(max_length=_MOST_VARIABLES)] = {}
    cwd: Path | None = None
    wait: float | None = None
    """Seconds that it may stand in the session's queue; null = as long as it takes."""

    def wanted(self) -> Execution:
        stdin: str | bytes | None = self.stdin
        if self.stdin_base64 is not None:
            if stdin is not None:
                raise InvalidArgument("Give stdin or stdin_base64, not both.")
            try:
                stdin = base64.b64decode(self.stdin_base64, validate=True)
            except ValueError as error:  # binascii.Error, or letters beyond ASCII
                raise InvalidArgument(f"stdin_base64 is not base 64: {error}.") from None
        return Execution(self.code, self.language, self.timeout, stdin, self.env, self.cwd, self.wait)


class SnapshotBody(Body):
    """A snapshot to be."""

    name: Name | None = None
    partial: bool = False
    """Leave out what cannot be kept, and say so, instead of refusing."""


class RestoreBody(Body):
    """What of a snapshot comes back."""

    paths: Annotated[list[Path], Field(min_length=1, max_length=1000)] | None = None
    """Null = everything, interpreters included."""


class BranchBody(Body):
    """Sessions to be."""

    count: int = 1
    snapshot: Name | None = None
    """Null = as the session is now."""
