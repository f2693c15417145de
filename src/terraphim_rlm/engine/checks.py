"""From what a model gave as the answer to what the host can say of it: found or not, verified or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from terraphim_rlm.core.errors import SchemaMismatch
from terraphim_rlm.core.values import Evidence
from terraphim_rlm.engine.context import Context

_NOT_FOUND = frozenset({"not found", "not_found", "notfound"})
_MOST_EVIDENCE = 100
_MOST_QUOTE = 2_000


def is_not_found(text: str) -> bool:
    """Whether an answer says that there is none."""
    return text.strip().strip(".!\"'`").lower() in _NOT_FOUND


def evidence(context: Context | None, spans: Iterable[tuple[str, int, int]]) -> tuple[Evidence, ...]:
    """The cited spans, each read from the host's own copy of the input; spans that are not there are left out."""
    if context is None:
        return ()
    found: dict[tuple[str, int, int], Evidence] = {}
    for path, start, end in spans:
        data = context.read(path or context.spans[0].path, start, end)
        if not data or len(found) >= _MOST_EVIDENCE:
            continue
        name = path or context.spans[0].path
        quote = data[:_MOST_QUOTE].decode("utf-8", "backslashreplace")
        line = context.line_of(name, start)
        found[name, start, end] = Evidence(name, start, min(end, start + _MOST_QUOTE), line, quote, True)
    return tuple(found.values())


def supports(text: str, items: Iterable[Evidence]) -> bool:
    """Whether an answer stands word for word in one of its quotes; only then is it called verified."""
    wanted = " ".join(text.split()).casefold()
    return bool(wanted) and any(wanted in " ".join(item.quote.split()).casefold() for item in items)


def check_schema(value: Any, schema: Mapping[str, Any] | None) -> None:
    """Raises `SchemaMismatch` when `value` is not of `schema` (JSON Schema)."""
    if schema is None:
        return
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:  # an empty registry: a schema never makes us fetch anything
        jsonschema.Draft202012Validator.check_schema(dict(schema))
        jsonschema.Draft202012Validator(dict(schema), registry=Registry()).validate(value)
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "the answer"
        raise SchemaMismatch(f"{where}: {error.message[:500]}") from None
    except jsonschema.SchemaError as error:
        raise SchemaMismatch(
            f"The schema itself is invalid: {error.message[:500]}", fix="Correct the schema."
        ) from None
    except (Unresolvable, RecursionError) as error:
        raise SchemaMismatch(
            f"The schema cannot be followed: {error!s:.300}.",
            fix="Let each $ref name a part of the schema itself, and none lead back to itself.",
        ) from None


def value_of(text: str, schema: Mapping[str, Any] | None) -> Any:
    """A textual answer as a value: JSON where a schema asks for it, else the text."""
    if schema is None:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
