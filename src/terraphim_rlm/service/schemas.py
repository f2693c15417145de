"""What is asked of an answer's form, judged before anything is spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.task import Route
from terraphim_rlm.llm.client import ModelInfo


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

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        raise InvalidArgument(
            f"The schema is no JSON Schema: {error.message[:500]}", fix="Correct the schema."
        ) from None
    small = route == "auto" and model.profile == "small" and over_input
    if small or route == "lookup":
        raise InvalidArgument(
            f"{model.name} only looks things up, and cannot fit its answer to a schema.",
            fix="Leave the schema out, or name a better model: --model ollama/NAME, for example.",
        )
