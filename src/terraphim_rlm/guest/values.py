"""A value of the cell, described for the host: JSON when it is JSON, its repr in any case."""

from .library import load

_MOST_REPR = 100_000
MOST_JSON = 16 << 20
TOO_LARGE = (
    "the answer is too large to be given whole (16 MB as JSON, 100,000 characters as a repr); give less of it"
)
FOUND = b'{"found": true}'


def described(namespace, name, evidence):
    """The body of a VALUE frame for a variable, with the spans cited so far."""
    if name not in namespace:
        told = {"found": False, "near": _near(namespace, name), "evidence": evidence}
    else:
        told = {"found": True, **describe(namespace[name]), "evidence": evidence}
    return load("json").dumps(told).encode()


def describe(value):
    """{"json": whether `value` is JSON, "value", "repr"}, and "cut" when it is too large to be given whole."""
    plain = _plain(value)
    try:
        text = load("json").dumps(plain, allow_nan=False)
        if len(text) > MOST_JSON:
            return {"json": False, "value": None, "repr": _repr(value), "cut": True}
        if _is_json(plain):
            return {"json": True, "value": plain, "repr": plain if isinstance(plain, str) else _repr(value)}
    except (TypeError, ValueError, RecursionError):
        pass  # not JSON; said so below
    shown = _repr(value)
    return {"json": False, "value": None, "repr": shown, "cut": len(shown) > _MOST_REPR}


def _plain(value):
    """Views of the input as what they show, unless that is too much; everything else as it is."""
    if hasattr(type(value), "plain") and len(value.bytes) <= MOST_JSON:
        return value.plain()
    return value


def _is_json(value):
    """Whether JSON keeps the value; json.dumps would turn other keys into text without a word."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int, float, bool))


def _repr(value):
    try:
        text = repr(value)
    except BaseException as error:  # a hostile __repr__
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= _MOST_REPR else f"{text[:_MOST_REPR]}..."


def _near(namespace, name):
    from difflib import get_close_matches

    return get_close_matches(name, [key for key in namespace if not key.startswith("_")], 3)
