"""What names and attributes of Python code mean: modules, their functions, and the ways round that lead to them."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, Any

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.python_expressions import Expressions as Reader

SAME = {"posix": "os", "nt": "os", "_os": "os", "_sys": "sys", "__builtin__": "builtins", "__builtins__": "builtins",
        "_subprocess": "subprocess", "_io": "io", "_pickle": "pickle", "cPickle": "pickle", "commands": "subprocess"}  # fmt: skip
MODULES = frozenset(
    [
        "os",
        "sys",
        "subprocess",
        "builtins",
        "shutil",
        "ctypes",
        "importlib",
        "pty",
        "socket",
        "runpy",
        "pickle",
        "marshal",
        "io",
        "pathlib",
        "base64",
        "codecs",
        "binascii",
        "zlib",
        "code",
        "timeit",
        "asyncio",
        "signal",
        "resource",
        "tempfile",
        "types",
        "operator",
        "functools",
        "threading",
    ]
)
"""Modules that code of an earlier cell may have imported, and that are worth finding through others."""
_REACHED = frozenset(["os", "sys", "subprocess", "builtins", "shutil", "ctypes", "importlib", "pty"])
"""Found through any other module, as `webbrowser.os`."""
_OWN_WAY = frozenset({"asyncio", "distutils", "six", "eventlet", "gevent", "test"})
STARS = {"os": ("system", "popen", "execv", "remove"), "subprocess": ("run", "Popen", "call", "check_output", "getoutput"),
         "posix": ("system", "popen", "execv"), "shutil": ("rmtree",), "ctypes": ("CDLL", "cdll", "pythonapi"), "pty": ("spawn",)}  # fmt: skip
_BUILTINS = frozenset(dir(builtins)) - {"__name__", "__doc__", "__package__", "__spec__", "__loader__"}
_FRAMES = frozenset(["__globals__", "f_globals", "f_builtins", "func_globals", "f_locals", "__builtins__"])
"""Attributes that give the namespace of some other code."""
_NAMESPACE = "~namespace"
_KNOWN_TAILS = {"system": "os.system", "popen": "os.popen", "Popen": "subprocess.Popen", "execv": "os.execv",
                "execve": "os.execve", "check_output": "subprocess.check_output", "getoutput": "subprocess.getoutput",
                "spawn": "pty.spawn", "rmtree": "shutil.rmtree", "fork": "os.fork"}  # fmt: skip
"""Functions that a namespace of unknown origin is asked for by name."""
_LOADS = frozenset({"load_module", "exec_module", "import_module", "find_module"})


class Scope:
    """Names of a module, class or function."""

    __slots__ = ("names", "parent")

    def __init__(self, parent: Scope | None = None) -> None:
        self.names: dict[str, Any] = {}
        self.parent = parent

    def get(self, name: str) -> Any:
        """What a name means here; None when it is nowhere set."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None


class Ref:
    """A path of names that begins at a module or a builtin; `hidden` when it was looked up by a string or a way round."""

    __slots__ = ("hidden", "path")

    def __init__(self, path: str, hidden: bool = False) -> None:
        self.path = path
        self.hidden = hidden


class Function:
    """A function or lambda of the code itself."""

    __slots__ = ("defaults", "node", "parameters", "scope")

    def __init__(self, node: Any, scope: Scope, defaults: list[Any]) -> None:
        self.node = node
        self.scope = scope
        arguments = node.args
        named = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        self.parameters = [
            *named,
            *(each.arg for each in arguments.kwonlyargs),
            *(each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None),
        ]
        self.defaults = (
            dict(zip(named[len(named) - len(defaults) :], defaults, strict=False)) if defaults else {}
        )

    def given(self, args: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
        """Its parameters, by what it is called with."""
        arguments = self.node.args
        named = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        found = {**self.defaults, **dict(zip(named, args, strict=False)), **keywords}
        if arguments.vararg is not None:
            found[arguments.vararg.arg] = tuple(args[len(named) :])
        return found


class Class:
    """A class of the code itself, and its instances, which are taken for the class."""

    __slots__ = ("bases", "scope")

    def __init__(self, scope: Scope, bases: list[Any]) -> None:
        self.scope = scope
        self.bases = bases


class Bound:
    """A method of a known plain value."""

    __slots__ = ("name", "value")

    def __init__(self, value: Any, name: str) -> None:
        self.value = value
        self.name = name


class Partial:
    """A function with arguments that it was given beforehand."""

    __slots__ = ("args", "function")

    def __init__(self, function: Any, args: list[Any]) -> None:
        self.function = function
        self.args = args


def canonical(path: str) -> str:
    """A path by the module that defines the name: `webbrowser.os.system` is `os.system`."""
    parts = path.split(".")
    parts[0] = SAME.get(parts[0], parts[0])
    for number in range(len(parts) - 1, 0, -1):
        name = SAME.get(parts[number], parts[number])
        if name in _REACHED and parts[0] not in _OWN_WAY:
            return ".".join([name, *parts[number + 1 :]])
    return ".".join(parts)


def ref(path: str, hidden: bool) -> Ref:
    """The path, canonical; a module that is reached through another one is hidden."""
    found = canonical(path)
    return Ref(found, hidden or (found != path and path.count(".") > found.count(".")))


def unset(name: str) -> Any:
    """What a name means that is nowhere set: a builtin, or a module of an earlier cell."""
    if name in ("__builtins__", "__builtin__"):
        return Ref("builtins")
    if name in _BUILTINS:
        return Ref(f"builtins.{name}")
    if name in MODULES or name in SAME:
        return Ref(SAME.get(name, name))
    if name in ("__loader__", "__spec__"):
        return Ref(f"~loader.{name}")
    if name == "sh":
        return Ref("sh")
    return UNKNOWN


def attribute(reader: Reader, base: Any, name: str, node: ast.AST) -> Any:  # noqa: PLR0911, C901 - a case a line
    """`base.name`."""
    if isinstance(base, Ref):
        path = base.path
        if name in ("__dict__", "__wrapped__"):
            return Ref(path, True) if name == "__dict__" else base
        if name == "__self__" and path.startswith("builtins."):
            return Ref("builtins", True)
        if name in _FRAMES:
            return Ref("builtins", True) if name in ("f_builtins", "__builtins__") else Ref(_NAMESPACE, True)
        if path.startswith("~"):
            return _way_round(reader, path, name)
        if name in ("__class__", "__base__", "__bases__", "__mro__"):
            return Ref("~class") if name == "__class__" else Ref("~object", True)
        return ref(f"{path}.{name}", base.hidden)
    if isinstance(base, Class):
        found = base.scope.names.get(name)
        if found is None:
            found = next(
                (
                    value
                    for each in base.bases
                    if (value := attribute(reader, each, name, node)) is not UNKNOWN
                ),
                UNKNOWN,
            )
        return found
    if name in _FRAMES:
        return Ref("builtins", True) if name in ("f_builtins", "__builtins__") else Ref(_NAMESPACE, True)
    if name == "__class__":
        return Ref("~class")
    if name == "__subclasses__" and not isinstance(base, Ref):
        return UNKNOWN
    if folding.is_plain(base) or isinstance(base, (list, dict)):
        return Bound(base, name)
    if name in ("system", "execv", "execve", "posix_spawn", "spawnv"):
        return Ref(f"?{_KNOWN_TAILS.get(name, f'os.{name}')}")
    return UNKNOWN


def _way_round(reader: Reader, path: str, name: str) -> Any:
    """Attributes of what is no module: classes, `object`, namespaces, loaders."""
    if path in ("~class", "~object"):
        if name in ("__base__", "__bases__", "__mro__", "mro"):
            return Ref("~object", True)
        if name == "__subclasses__" and path == "~object":
            return Ref("object.__subclasses__", True)
        return Ref("~class") if name == "__class__" else UNKNOWN
    if path == "ctypes.dll":
        return Ref(f"ctypes.dll.{name}")
    return Ref(f"{path}.{name}", True)


def item(reader: Reader, base: Any, key: Any, node: ast.AST) -> Any:
    """`base[key]`."""
    if isinstance(base, Ref):
        return looked_up(reader, base, key)
    if isinstance(base, Class):
        found = base.scope.names.get("__getitem__") or base.scope.names.get("__class_getitem__")
        if found is not None:
            from terraphim_rlm.guard.safety import python_calls

            return python_calls.called(reader, found, [key], {}, node)
        return UNKNOWN
    if isinstance(base, (list, tuple, str, bytes)) and type(key) is int:
        return base[key] if -len(base) <= key < len(base) else UNKNOWN
    if type(base) is dict and isinstance(key, (str, int, bytes)):
        return base.get(key, UNKNOWN)
    return UNKNOWN


def looked_up(reader: Reader, base: Ref, key: Any) -> Any:  # noqa: PLR0911 - a case a line
    """A name that is looked up in a module or namespace by a value."""
    path = base.path
    if path == "sys.modules":
        return Ref(SAME.get(key, key), True) if isinstance(key, str) else Ref("~module", True)
    if path == "~object":
        return Ref("~object", True)
    if not isinstance(key, str):
        return UNKNOWN
    if path in (_NAMESPACE, "~globals"):
        known = reader.scope.get(key) if path == "~globals" else None
        if isinstance(known, Ref):
            return Ref(known.path, True)
        if known is not None:
            return known
        if key in ("__builtins__", "__builtin__"):
            return Ref("builtins", True)
        if key in _KNOWN_TAILS:
            return Ref(_KNOWN_TAILS[key], True)
        if key in _BUILTINS:
            return Ref(f"builtins.{key}", True)
        return Ref(SAME.get(key, key), True) if key in MODULES or key in SAME else UNKNOWN
    if path in MODULES or base.hidden:
        return ref(f"{path}.{key}", True)
    return UNKNOWN


def truth(value: Any) -> bool:
    """Whether a condition is known to hold."""
    return value is not UNKNOWN and not isinstance(value, (Ref, Function, Class, Bound)) and bool(value)


_OPERATORS = frozenset(
    [
        "__getitem__",
        "__class_getitem__",
        "__add__",
        "__radd__",
        "__sub__",
        "__mul__",
        "__matmul__",
        "__truediv__",
        "__floordiv__",
        "__mod__",
        "__pow__",
        "__lshift__",
        "__rshift__",
        "__and__",
        "__xor__",
        "__or__",
        "__contains__",
        "__getattr__",
        "__getattribute__",
        "__call__",
        "__del__",
        "__enter__",
        "__exit__",
        "__iter__",
        "__next__",
        "__lt__",
        "__gt__",
        "__eq__",
        "__missing__",
        "__format__",
        "__set_name__",
        "__init_subclass__",
        "__hash__",
        "__neg__",
        "__pos__",
        "__invert__",
        "__bool__",
        "__str__",
        "__repr__",
        "__instancecheck__",
        "__prepare__",
    ]
)
_HOOKS = frozenset(["sys.excepthook", "sys.displayhook", "sys.breakpointhook", "sys.unraisablehook", "builtins.print", "builtins.open", "builtins.input", "builtins.len", "builtins.repr", "builtins.__import__", "builtins.__build_class__"])  # fmt: skip


def bound(reader: Reader, name: str, value: Any, node: ast.AST) -> None:
    """A name, an attribute or an item was given a value: operators and hooks that become dangerous functions."""
    if isinstance(value, Ref) and (name.rpartition(".")[2] in _OPERATORS or name in _HOOKS):
        reader.notes.note("call", value.path.lstrip("?"), reader.span(node), (), True)
    if name in _HOOKS:
        reader.notes.note("hook", name, reader.span(node))
    if name in (
        "os.environ.LD_PRELOAD",
        "os.environ.PYTHONBREAKPOINT",
        "os.environ.BASH_ENV",
        "os.environ.PYTHONSTARTUP",
    ):
        reader.notes.note("hook", name, reader.span(node))


def captured(reader: Reader, pattern: ast.pattern, subject: Any) -> None:
    """Names that a `case` takes out of its subject."""
    if isinstance(pattern, ast.MatchAs):
        if pattern.name is not None:
            reader.bind(ast.Name(pattern.name), subject, pattern)
        if pattern.pattern is not None:
            captured(reader, pattern.pattern, subject)
        return
    for inner, value in _captures(reader, pattern, subject):
        captured(reader, inner, value)


def _captures(reader: Reader, pattern: ast.pattern, subject: Any) -> list[tuple[ast.pattern, Any]]:
    """The patterns within one, and what they are held against."""
    if isinstance(pattern, ast.MatchClass):
        named = []
        for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
            found = attribute(reader, subject, name, pattern)
            named.append((inner, Ref(found.path, True) if isinstance(found, Ref) else found))
        return named + [(inner, UNKNOWN) for inner in pattern.patterns]
    if isinstance(pattern, ast.MatchSequence):
        known = isinstance(subject, (list, tuple)) and len(subject) == len(pattern.patterns)
        return [
            (inner, subject[number] if known else UNKNOWN) for number, inner in enumerate(pattern.patterns)
        ]
    if isinstance(pattern, ast.MatchOr):
        return [(inner, subject) for inner in pattern.patterns]
    return [(inner, UNKNOWN) for inner in pattern.patterns] if isinstance(pattern, ast.MatchMapping) else []
