"""What calls of Python code come to: look-ups by name, code in strings, commands of a shell, and what rules know."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from terraphim_rlm.guard.safety import folding, python_lookups, python_names
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.python_names import Bound, Class, Function, Partial, Ref, Scope
from terraphim_rlm.guard.safety.rules import rule_set

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.python_expressions import Expressions as Reader

_SHELLS = frozenset(
    [
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "asyncio.create_subprocess_shell",
        "sh",
        "asyncio.subprocess.create_subprocess_shell",
        "os.popen2",
        "os.popen3",
        "ctypes.dll.system",
        "ctypes.dll.popen",
    ]
)
"""They take a line for the shell."""
_PROGRAMS = frozenset(
    [
        "subprocess.run",
        "subprocess.call",
        "subprocess.check_call",
        "subprocess.check_output",
        "subprocess.Popen",
    ]
)
_LISTED = {"os.execv": 1, "os.execve": 1, "os.execvp": 1, "os.execvpe": 1, "os.posix_spawn": 1, "os.posix_spawnp": 1, "os.spawnv": 2,
           "os.spawnve": 2, "os.spawnvp": 2, "os.spawnvpe": 2, "pty.spawn": 0, "_posixsubprocess.fork_exec": 0}  # fmt: skip
"""They take arguments as a list, at this place."""
_SPREAD = {"os.execl": 1, "os.execle": 1, "os.execlp": 1, "os.execlpe": 1, "os.spawnl": 2, "os.spawnlp": 2, "os.spawnle": 2,
           "asyncio.create_subprocess_exec": 0, "asyncio.subprocess.create_subprocess_exec": 0}  # fmt: skip
_RUN_TEXT = frozenset(["builtins.exec", "builtins.eval", "builtins.compile", "timeit.timeit", "timeit.repeat", "cProfile.run", "profile.run", "code.InteractiveInterpreter.runsource", "code.InteractiveInterpreter.runcode", "pdb.run", "pdb.runeval", "trace.run", "_xxsubinterpreters.run_string", "_testcapi.run_in_subinterp", "ctypes.pythonapi.PyRun_SimpleString", "code.interact", "ctypes.dll.PyRun_SimpleString", "timeit.Timer", "bdb.run", "code.InteractiveConsole.push"])  # fmt: skip
_CALLERS = frozenset(["builtins.map", "builtins.filter", "threading.Thread", "threading.Timer", "multiprocessing.Process", "atexit.register", "functools.reduce", "itertools.starmap", "asyncio.to_thread", "builtins.sorted", "builtins.max", "builtins.min", "signal.signal", "weakref.finalize", "concurrent.futures.Future", "itertools.accumulate", "builtins.iter"])  # fmt: skip
"""They call what they are given; of their own they are harmless."""


def call(reader: Reader, node: ast.Call) -> Any:
    """The value of a call; what it does is noted."""
    function = reader.value(node.func)
    args: list[Any] = []
    for each in node.args:
        if isinstance(each, ast.Starred):
            inner = reader.value(each.value)
            args.extend(inner if isinstance(inner, (list, tuple)) else [UNKNOWN])
        else:
            args.append(reader.value(each))
    keywords = {}
    for keyword in node.keywords:
        value = reader.value(keyword.value)
        if keyword.arg is not None:
            keywords[keyword.arg] = value
        elif type(value) is dict:
            keywords |= {key: each for key, each in value.items() if isinstance(key, str)}
    return called(reader, function, args, keywords, node)


def called(reader: Reader, function: Any, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
    """`function(*args, **keywords)` at `node`."""
    if isinstance(function, Ref):
        return _known(reader, function, args, keywords, node)
    if isinstance(function, Partial):
        return called(reader, function.function, [*function.args, *args], keywords, node)
    _handed_on(reader, args, keywords, node)
    if isinstance(function, Function):
        return reader.call_own(function, args, keywords, node)
    if isinstance(function, Bound):
        return _method(reader, function, args, node)
    if isinstance(function, Class):
        return _made(reader, function, args, node)
    return UNKNOWN


def _made(reader: Reader, made: Class, args: list[Any], node: ast.AST) -> Any:
    """An instance; its own `__init__` and `__call__` are followed with what it was given."""
    for name in ("__init__", "__call__"):
        own = made.scope.names.get(name)
        if isinstance(own, Function):
            reader.call_own(own, [made, *args], {}, node)
        elif isinstance(own, Ref):
            _known(reader, own, args, {}, node)
    return made


def _method(reader: Reader, bound: Bound, args: list[Any], node: ast.AST) -> Any:
    value, name = bound.value, bound.name
    if isinstance(value, list):
        if name == "append" and len(args) == 1 and len(value) < folding.MOST:
            value.append(args[0])
            return None
        if name == "reverse":
            value.reverse()
            return None
        if name in ("pop", "__getitem__") and value:
            number = args[0] if args and type(args[0]) is int else -1
            return value[number] if -len(value) <= number < len(value) else UNKNOWN
    if (
        type(value) is dict
        and name in ("get", "pop", "__getitem__")
        and args
        and isinstance(args[0], (str, int))
    ):
        return value.get(args[0], UNKNOWN)
    if name == "format" and isinstance(value, str) and "__" in value:
        reader.notes.note("format", "format", reader.span(node), (value,))
    return folding.method(value, name, args)


def _handed_on(reader: Reader, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> None:
    """Functions that are given away, to be called elsewhere."""
    for each in (*args, *keywords.values()):
        if isinstance(each, Ref):
            referred(reader, each, node)


def referred(reader: Reader, value: Ref, node: ast.AST) -> None:
    """A function that is kept or handed on: as grave as its call."""
    reader.notes.note("call", value.path.lstrip("?"), reader.span(node), (), value.hidden)


def decorated(reader: Reader, decorator: ast.expr, value: Any) -> Any:
    """A decorator's call; code that decorates with what runs code hides a call."""
    function = reader.value(decorator)
    if isinstance(function, Ref) and (
        function.path in _RUN_TEXT
        or function.path in _SHELLS
        or function.path in _PROGRAMS
        or function.path == "builtins.input"
    ):
        reader.notes.note("call", function.path, reader.span(decorator), (), True)
        return UNKNOWN
    if isinstance(function, Function) and isinstance(value, (str, Function)):
        return reader.call_own(function, [value], {}, decorator)
    return value


def _known(reader: Reader, function: Ref, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:  # noqa: C901 - a way a line
    path, hidden = function.path.lstrip("?"), function.hidden
    if (found := python_lookups.look_up(reader, path, args, node)) is not None:
        _handed_on(reader, args[1:], keywords, node)
        return found
    if path.endswith((".__call__", ".__func__")):
        return _known(reader, Ref(path.rpartition(".")[0], True), args, keywords, node)
    span = reader.span(node)
    _handed_on(reader, args, keywords, node)
    said = _said(args, keywords)
    reader.notes.note("call", path, span, said, hidden)
    for text in said:
        if text is not None:
            _looked_at(reader, text, span)
    if path in _SHELLS:
        _shell(reader, _first(args, keywords, "cmd", "command"), span)
    elif path in _PROGRAMS:
        _program(reader, args, keywords, span)
    elif path in _LISTED:
        _listed(reader, args[_LISTED[path] : _LISTED[path] + 1], span)
    elif path in _SPREAD:
        _listed(reader, [args[_SPREAD[path] :]], span)
    elif path in _RUN_TEXT:
        return _code(reader, path, args, keywords, node)
    elif path in _CALLERS:
        return _through(reader, path, args, keywords, node)
    elif path in ("os.fork", "os.forkpty", "multiprocessing.Process") and reader.for_ever:
        reader.notes.note("huge", "fork", span)
    elif path in ("functools.partial", "operator.methodcaller"):
        return Partial(args[0], args[1:]) if args else UNKNOWN
    elif path == "operator.call" and args:
        return called(reader, args[0], args[1:], keywords, node)
    elif path == "builtins.type" and len(args) == 3:
        return _typed(reader, args[2], node)
    return _result(path, args, keywords)


def _said(args: list[Any], keywords: dict[str, Any]) -> list[str | None]:
    """Arguments as text, those of lists too; None for what is not known."""
    found: list[str | None] = []
    for each in (*args, *keywords.values()):
        found += map(_as_text, each[:65] if isinstance(each, (list, tuple)) else (each,))
        if len(found) > 64:
            break
    return found[:65]


def _as_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return None if isinstance(value, bool) or not isinstance(value, (str, int)) else str(value)


def _looked_at(reader: Reader, text: str, span: tuple[int, int]) -> None:
    """A constant that some call is given: paths and hosts of note."""
    if len(text) < 4096:
        for rule in rule_set().broken("argument", "python", text):
            reader.notes.find(rule, span)


def _first(args: list[Any], keywords: dict[str, Any], *names: str) -> Any:
    return args[0] if args else next((keywords[name] for name in names if name in keywords), UNKNOWN)


def _inside(reader: Reader, text: str, language: str, span: tuple[int, int], **known: Any) -> None:
    from terraphim_rlm.guard.safety.reading import inside

    inside(text, language, reader.notes, span, **known)


def _shell(reader: Reader, line: Any, span: tuple[int, int]) -> None:
    if isinstance(line, bytes):
        line = line.decode("latin-1")
    if isinstance(line, str):
        _inside(reader, line, "bash", span)


def _program(reader: Reader, args: list[Any], keywords: dict[str, Any], span: tuple[int, int]) -> None:
    command = _first(args, keywords, "args")
    given = keywords.get("input")
    if isinstance(command, (str, bytes)):
        if python_names.truth(keywords.get("shell", False)):
            _shell(reader, command, span)
        else:
            _listed(reader, [[command]], span, given)
    elif python_names.truth(keywords.get("shell", False)) and isinstance(command, (list, tuple)) and command:
        _shell(reader, command[0], span)
    else:
        _listed(reader, [command], span, given)


def _listed(reader: Reader, lists: list[Any], span: tuple[int, int], given: Any = None) -> None:
    """A program and its arguments."""
    if not lists or not isinstance(lists[0], (list, tuple, str)):
        return
    words = [lists[0]] if isinstance(lists[0], str) else list(lists[0])
    argv: list[str | None] = []
    for each in words[:256]:
        if isinstance(each, Ref) and each.path == "sys.executable":
            argv.append("python3")
        elif isinstance(each, bytes):
            argv.append(each.decode("latin-1"))
        else:
            argv.append(each if isinstance(each, str) else None)
    from terraphim_rlm.guard.safety import shell_commands

    if isinstance(given, bytes):
        given = given.decode("latin-1")
    shell_commands.run(argv, span, reader.notes, stdin=given if isinstance(given, str) else None)


def _code(reader: Reader, path: str, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
    """Code in a string that is run: read where it is known."""
    text = _first(args, keywords, "stmt", "source", "statement")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if isinstance(text, Partial):
        return UNKNOWN
    if isinstance(text, str):
        span = reader.span(node)
        if path == "builtins.compile":
            return text
        return _evaluated(reader, text, span)
    return UNKNOWN


def _evaluated(reader: Reader, text: str, span: tuple[int, int]) -> Any:
    from terraphim_rlm.guard.safety import hidden_text, python
    from terraphim_rlm.guard.safety.reading import MOST_DEPTH, Unparsed

    notes = reader.notes
    notes.deeper(MOST_DEPTH)
    pinned, notes.pinned = notes.pinned, notes.pinned or span
    try:
        return python.read(text.strip(" \t"), notes, reader.scope)
    except Unparsed:
        hidden_text.lexical(text, notes)
        return UNKNOWN
    finally:
        notes.pinned = pinned
        notes.depth -= 1


def _through(reader: Reader, path: str, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
    """Functions that are called by those they are given to."""
    function = keywords.get("target", keywords.get("function", args[0] if args else UNKNOWN))
    if path in ("builtins.map", "builtins.filter", "itertools.starmap") and len(args) >= 2:
        return _mapped(reader, path, function, args[1:], node)
    if path == "functools.reduce" and len(args) >= 2 and isinstance(args[1], (list, tuple)):
        values = [*args[2:3], *args[1]]
        found = values[0] if values else UNKNOWN
        for each in values[1:64]:
            found = called(reader, function, [found, each], {}, node)
        return found
    given = keywords.get("args", args[2] if path == "threading.Timer" and len(args) > 2 else args[1:])
    if path == "threading.Timer":
        function = args[1] if len(args) > 1 else function
    if isinstance(given, (list, tuple)) and isinstance(function, (Ref, Partial, Function)):
        called(reader, function, list(given), {}, node)
    return folding.function(path, args)


def _mapped(reader: Reader, path: str, function: Any, lists: list[Any], node: ast.AST) -> Any:
    if not all(isinstance(each, (str, bytes, list, tuple)) for each in lists):
        return UNKNOWN
    rows = list(zip(*lists, strict=False))[:4096]
    if path == "itertools.starmap":
        rows = [tuple(row[0]) if isinstance(row[0], (list, tuple)) else row for row in rows]
    if isinstance(function, Ref) and function.path in folding.FUNCTIONS:
        found = [folding.function(function.path, list(row)) for row in rows]
    else:
        found = [called(reader, function, list(row), {}, node) for row in rows[:512]]
    return found if path != "builtins.filter" else UNKNOWN


def _typed(reader: Reader, names: Any, node: ast.AST) -> Any:
    """A class made by `type(name, bases, names)`."""
    scope = Scope(reader.scope)
    if type(names) is dict:
        for name, value in names.items():
            if isinstance(name, str):
                scope.names[name] = value
                python_names.bound(reader, name, value, node)
    return Class(scope, [])


def _result(path: str, args: list[Any], keywords: dict[str, Any]) -> Any:
    if path in ("ctypes.CDLL", "ctypes.PyDLL", "ctypes.cdll.LoadLibrary", "ctypes.pydll.LoadLibrary"):
        return Ref("ctypes.dll")
    if path in ("ctypes.cdll", "ctypes.pythonapi"):
        return Ref("ctypes.dll")
    if path in (
        "code.InteractiveInterpreter",
        "code.InteractiveConsole",
        "subprocess.Popen",
        "pathlib.Path",
        "pathlib.PosixPath",
    ):
        return Ref(path) if path.startswith("code") else UNKNOWN
    return folding.function(path, [*args, *keywords.values()] if path in folding.FUNCTIONS else args)
