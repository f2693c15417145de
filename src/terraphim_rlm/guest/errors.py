"""What a cell raised, as the host and the model see it."""

import json
import linecache
import traceback

_MOST = 20_000  # characters of a message or a traceback


def report(error, sources):
    """The body of a DONE frame for an exception that left a cell."""
    for name, lines in sources.items():
        linecache.cache[name] = (0, None, lines, name)
    return json.dumps(
        {
            "type": type(error).__name__,
            "message": _cut(_text(error)),
            "traceback": _cut(_trace(error)),
            "exit_code": _exit_code(error),
            "errno": getattr(error, "errno", None) if isinstance(error, OSError) else None,
            "missing": _missing(error),
        }
    ).encode("utf-8", "surrogatepass")


def _text(error):
    try:
        return str(error)
    except BaseException:  # a hostile __str__
        return "(its message could not be read)"


def _trace(error):
    """The traceback from the cell's first own frame on, so that nobody reads of our machinery."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        return f"{type(error).__name__}: (its traceback could not be made)\n"


def _missing(error):
    if not isinstance(error, ModuleNotFoundError):
        return None
    from . import missing

    return missing.about(error)


def _exit_code(error):
    if not isinstance(error, SystemExit):
        return 1
    code = error.code
    if code is None:
        return 0
    return code & 255 if isinstance(code, int) else 1


def _cut(text):
    if len(text) <= _MOST:
        return text
    half = _MOST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
