"""What is asked of an answer's form, judged before anything is spent on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.checks import is_not_found
from terraphim_rlm.engine.guards import Checks, Proposal
from terraphim_rlm.engine.task import Route
from terraphim_rlm.llm.client import ModelInfo

Schema = Mapping[str, Any] | type
"""JSON Schema, or a pydantic model."""


def as_json_schema(schema: Schema | None) -> Mapping[str, Any] | None:
    """The JSON Schema of what is asked for.

    Raises:
        InvalidArgument: it is neither a JSON Schema nor a pydantic model.
    """
    if schema is None or isinstance(schema, Mapping):
        return schema
    made = getattr(schema, "model_json_schema", None)
    if not isinstance(schema, type) or made is None:
        raise InvalidArgument(
            f"A schema cannot be a {type(schema).__name__}.",
            fix="Give a JSON Schema as a dict, or a pydantic model (the class).",
        )
    found: Mapping[str, Any] = made()
    return found


def checks_of(schema: Schema | None, checks: Checks) -> Checks:
    """The checks with what a pydantic model validates beyond its JSON Schema, before the caller's own `verify`."""
    if schema is None or isinstance(schema, Mapping):
        return checks
    validate: Callable[[Any], Any] = schema.model_validate  # type: ignore[attr-defined]
    own = checks.verify

    def verify(proposal: Proposal) -> Awaitable[str | None] | str | None:
        if proposal.value is None and is_not_found(proposal.text):
            return None if own is None else own(proposal)
        try:
            validate(proposal.value)
        except ValueError as error:  # pydantic's ValidationError is one
            return f"it does not validate: {' '.join(str(error).split())[:500]}"
        return None if own is None else own(proposal)

    return replace(checks, verify=verify)


def check_wanted(
    schema: Mapping[str, Any] | None, model: ModelInfo, route: Route, *, over_input: bool
) -> None:
    """Refuses a schema that is none, or that the way of working cannot keep.

    A look-up gives a text that is copied out of the input; no schema is asked of it.

    Raises:
        InvalidArgument: the schema is not a JSON Schema, or the model only looks things up.
    """
    if schema is None:
        return
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
        jsonschema.Draft202012Validator(dict(schema), registry=Registry()).is_valid(None)
    except jsonschema.SchemaError as error:
        raise InvalidArgument(
            f"The schema is no JSON Schema: {error.message[:500]}", fix="Correct the schema."
        ) from None
    except (Unresolvable, RecursionError) as error:
        raise InvalidArgument(
            f"The schema cannot be followed: {error!s:.300}.",
            fix="Let each $ref name a part of the schema itself, and none lead back to itself.",
        ) from None
    small = route == "auto" and model.profile == "small" and over_input
    if small or route == "lookup":
        raise InvalidArgument(
            f"{model.name} only looks things up, and cannot fit its answer to a schema.",
            fix="Leave the schema out, or name a better model: --model ollama/NAME, for example.",
        )
