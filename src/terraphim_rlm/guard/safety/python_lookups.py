"""Look-ups by name: the ways in which Python code gets at a module or a function by a string."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from terraphim_rlm.guard.safety import python_names
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.python_names import Partial, Ref

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.python_expressions import Expressions as Reader

_GETTERS = frozenset({"get", "pop", "setdefault", "__getitem__", "__getattribute__", "__getattr__"})
_IMPORTS = frozenset({"builtins.__import__", "importlib.import_module", "importlib.__import__"})
_NOWHERE = ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)
"""Where what is looked up stands: its call says where."""


def look_up(reader: Reader, path: str, args: list[Any], node: ast.AST) -> Any:
    """What a look-up by name gives; None when `path` is none. A name that stands there in plain words hides nothing."""
    known = _WAYS.get(path)
    if known is _getattr and len(args) >= 2 and _is_plain(node):
        found = attribute(reader, args[0], args[1])
        own = isinstance(args[0], Ref) and args[0].hidden
        return Ref(found.path, own) if isinstance(found, Ref) else found
    if known is not None and (found := known(reader, args)) is not None:
        return found
    base, _, name = path.rpartition(".")
    first = args[0] if args else UNKNOWN
    if path in _IMPORTS or name == "load_module":
        return _imported(path, first)
    if name in ("mro", "__mro__") and path.startswith("~"):
        return Ref("~object", True)
    if name in _GETTERS and isinstance(first, str) and base in _HOLDERS:
        return python_names.looked_up(reader, Ref(base, True), first)
    return None


def _is_plain(node: ast.AST) -> bool:
    """Whether the name that a `getattr` is given stands in it as it is."""
    return isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant)


_HOLDERS = python_names.MODULES | {"sys.modules", "~namespace", "~globals"}


def _imported(path: str, name: Any) -> Ref:
    if not isinstance(name, str):
        return Ref("~module", True)
    top = name if path == "importlib.import_module" else name.partition(".")[0]
    return python_names.ref(python_names.SAME.get(top, top), True)


def _getattr(reader: Reader, args: list[Any]) -> Any:
    if len(args) == 3 and not isinstance(args[1], str):
        return UNKNOWN  # it has a default: code that looks what there is
    return attribute(reader, args[0], args[1]) if len(args) >= 2 else None


def _namespace(reader: Reader, args: list[Any]) -> Any:
    return Ref("~globals", True)


def _vars(reader: Reader, args: list[Any]) -> Any:
    if not args:
        return Ref("~globals", True)
    return Ref(args[0].path, True) if isinstance(args[0], Ref) else UNKNOWN


def _type(reader: Reader, args: list[Any]) -> Any:
    return Ref("~class") if len(args) == 1 else None


def _attrgetter(reader: Reader, args: list[Any]) -> Any:
    return Partial(Ref("~attrgetter"), args[:1]) if args and isinstance(args[0], str) else None


def _itemgetter(reader: Reader, args: list[Any]) -> Any:
    return Partial(Ref("~itemgetter"), args[:1])


def _got_attribute(reader: Reader, args: list[Any]) -> Any:
    if len(args) != 2:
        return None
    found = args[1]
    for part in str(args[0]).split("."):
        found = attribute(reader, found, part)
    return found


def _got_item(reader: Reader, args: list[Any]) -> Any:
    return python_names.item(reader, args[1], args[0], _NOWHERE) if len(args) == 2 else None


def _frame(reader: Reader, args: list[Any]) -> Any:
    return UNKNOWN


_WAYS: dict[str, Callable[[Reader, list[Any]], Any]] = {
    "builtins.getattr": _getattr,
    "inspect.getattr_static": _getattr,
    "builtins.object.__getattribute__": _getattr,
    "builtins.type.__getattribute__": _getattr,
    "~class.__getattribute__": _getattr,
    "builtins.globals": _namespace,
    "builtins.locals": _namespace,
    "builtins.vars": _vars,
    "builtins.type": _type,
    "operator.attrgetter": _attrgetter,
    "operator.itemgetter": _itemgetter,
    "~attrgetter": _got_attribute,
    "~itemgetter": _got_item,
    "sys._getframe": _frame,
    "inspect.currentframe": _frame,
}


def attribute(reader: Reader, base: Any, name: Any) -> Any:
    """`getattr(base, name)`."""
    if not isinstance(name, str):
        watched = isinstance(base, Ref) and base.path in ("os", "subprocess", "builtins")
        return Ref(f"~of.{base.path}") if watched else UNKNOWN
    found = python_names.attribute(reader, base, name, _NOWHERE)
    return Ref(found.path, True) if isinstance(found, Ref) else found
