"""What the configuration file says of the guard, in its table `[guard]`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from terraphim_rlm.core.config import read_config
from terraphim_rlm.core.errors import ConfigInvalid, InvalidArgument
from terraphim_rlm.core.paths import config_file
from terraphim_rlm.guard.asking import ASK_SECONDS, Decider
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.guard.hooks import Hook
from terraphim_rlm.guard.judging import RETRIES, Guard, GuardMode

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.vocabulary import Strictness


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The keys of the table. What a caller says himself comes before it."""

    graph: str | None = None
    """A knowledge graph that the code of models is held to."""
    strictness: Strictness = "normal"
    least_ratio: float = 0.1
    retries: int = RETRIES
    ask_seconds: float = ASK_SECONDS
    hooks: tuple[str, ...] = ()
    """Names of built-in hooks, in order; see `HOOKS`."""


def read_guard_settings() -> GuardSettings:
    """Those of the configuration file; the defaults without one.

    Raises:
        ConfigInvalid: the file cannot be read, or a key is not known; the fix has the nearest one.
    """
    path, table = config_file(), read_config().get("guard", {})
    if not isinstance(table, dict):
        raise ConfigInvalid(f"{path}: guard must be a table, as in: [guard].", path=str(path))
    known = [field.name for field in fields(GuardSettings)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"Did you mean {near[0]}?" if near else f"Its keys are {', '.join(known)}."
            raise ConfigInvalid(f"{path}: [guard] has no key {key!r}.", fix=fix, path=str(path), key=key)
    graph, hooks = table.get("graph"), table.get("hooks", [])
    if graph is not None and not isinstance(graph, str):
        raise ConfigInvalid(f"{path}: graph must be a path, as text.", path=str(path), key="graph")
    if not isinstance(hooks, list) or not all(isinstance(name, str) for name in hooks):
        raise ConfigInvalid(f"{path}: hooks must be a list of names.", path=str(path), key="hooks")
    return GuardSettings(**{**table, "hooks": tuple(hooks)})


def configured_guard(
    mode: GuardMode = "block",
    *,
    graph: str | None = None,
    strictness: Strictness | None = None,
    ask: Decider | None = None,
) -> Guard:
    """A guard as the configuration file has it, but for what is said here. Whoever makes it closes it.

    Raises:
        ConfigInvalid: the file says what cannot be.
        InvalidArgument: the caller does.
    """
    own = read_guard_settings()
    try:
        hooks = [_hook(name) for name in own.hooks]
        guard = make_guard(
            mode,
            graph=graph if graph is not None else own.graph,
            strictness=strictness if strictness is not None else own.strictness,
            least_ratio=own.least_ratio,
            retries=own.retries,
            ask=ask,
            ask_seconds=own.ask_seconds,
            hooks=hooks,
        )
    except InvalidArgument as error:
        if strictness is not None and error.details.get("name") == "strictness":
            raise
        raise ConfigInvalid(f"{config_file()}: {error.message}", fix=error.fix, **error.details) from error
    return guard


def _hook(name: str) -> Hook:
    made = HOOKS.get(name)
    if made is None:
        raise InvalidArgument(
            f"There is no built-in hook {name[:40]!r}.", fix=f"Use some of: {', '.join(HOOKS)}.", name="hooks"
        )
    return made()


def _built_in(name: str) -> Callable[[], Hook]:
    def make() -> Hook:
        from terraphim_rlm.guard import built_in

        made: Hook = getattr(built_in, name)()
        return made

    return make


HOOKS: dict[str, Callable[[], Hook]] = {
    "dangerous_pattern": _built_in("DangerousPattern"),
    "syntax_validation": _built_in("SyntaxValidation"),
    "execution_logger": _built_in("ExecutionLogger"),
    "output_sanitizer": _built_in("OutputSanitizer"),
    "dependency_injector": _built_in("DependencyInjector"),
}
"""Built-in hooks by the names under which they are configured and told of."""
