"""Which model calls a block of Python will make, as far as its text says so before it runs.

Only what is certain to be reached, if nothing before it raises, and whose arguments are known: literals, names that were given
known values, f-strings, sums and lists of these, loops over known lists. Nothing of the code is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_FORESEEN = 256
"""Prompts of one block."""
_MOST_TEXT = 1_000_000
_MOST_ITEMS = 1_000
_MOST_STEPS = 20_000
_QUERY, _BATCH = "llm_query", "llm_query_batched"
_OPTIONS = ("model", "max_tokens", "temperature", "memo")
_UNKNOWN: Any = object()


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A model call that will be made: its arguments, as a cell would send them."""

    args: dict[str, Any]


def foresee(code: str, known: dict[str, Any] | None = None) -> list[Foreseen]:
    """The calls, in their order.

    Args:
        known: values of names, from blocks before this one; brought up to what this block gives them.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    reader = _Reader({} if known is None else known)
    if not reader.trusts(tree):
        reader.names.clear()
        return []
    try:
        reader.body(tree.body)
    except (_Full, RecursionError):
        reader.names.clear()  # what was not read may have changed any of them
    return reader.found


class _Full(Exception):
    """Enough is foreseen, or enough was tried."""


class _Stops(Exception):
    """The block ends here."""


class _Reader:
    """Follows a block from top to bottom. Lists are kept as tuples: whoever might change one makes all unknown."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.found: list[Foreseen] = []
        self._prompts = self._steps = 0

    def trusts(self, tree: ast.Module) -> bool:
        """Whether the names of the calls mean what they always do."""
        return not any(
            (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in (_QUERY, _BATCH))
            or (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in (_QUERY, _BATCH))
            or (isinstance(node, ast.alias) and (node.asname or node.name) in (_QUERY, _BATCH, "*"))
            for node in ast.walk(tree)
        )  # fmt: skip

    def body(self, statements: list[ast.stmt]) -> None:
        try:
            for statement in statements:
                self._statement(statement)
        except _Stops:
            return

    def _statement(self, statement: ast.stmt) -> None:
        self._step()
        if isinstance(statement, ast.Assign):
            value = self.value(statement.value)
            for target in statement.targets:
                self._give(target, value)
        elif isinstance(statement, ast.AnnAssign):
            if statement.value is not None:
                self._give(statement.target, self.value(statement.value))
        elif isinstance(statement, ast.AugAssign):
            self.value(statement.value)
            self._give(statement.target, _UNKNOWN)
        elif isinstance(statement, ast.Expr):
            self.value(statement.value)
        elif isinstance(statement, ast.For):
            self._loop(statement)
        elif isinstance(statement, (ast.Raise, ast.Return)):
            raise _Stops
        elif not isinstance(statement, (ast.Pass, ast.Import, ast.ImportFrom)):
            self._forget(statement)

    def _loop(self, loop: ast.For) -> None:
        """Over a known list, and with nothing in it that may leave it early."""
        items = self.value(loop.iter)
        leaves = any(isinstance(node, (ast.Break, ast.Continue, ast.Return)) for node in ast.walk(loop))
        if not isinstance(items, tuple) or not isinstance(loop.target, ast.Name) or leaves or loop.orelse:
            self._forget(loop)
            return
        for item in items:
            self.names[loop.target.id] = item
            for statement in loop.body:
                self._statement(statement)

    def _give(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            if value is _UNKNOWN:
                self.names.pop(target.id, None)
            else:
                self.names[target.id] = value
        else:
            self._forget(target)

    def _forget(self, node: ast.AST) -> None:
        """Whatever is set in there, and every list, is unknown from now on."""
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, (ast.Store, ast.Del)):
                self.names.pop(each.id, None)
            elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.names.pop(each.name, None)
        self._forget_lists()

    def _forget_lists(self) -> None:
        for name in [name for name, value in self.names.items() if isinstance(value, tuple)]:
            del self.names[name]

    def value(self, node: ast.expr) -> Any:
        """What an expression comes to, or `_UNKNOWN`; the calls in it are noted."""
        self._step()
        work = _VALUES.get(type(node))
        if work is not None:
            return work(self, node)
        if type(node) in _EVALUATED:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)
        return _UNKNOWN

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _Full

    def _constant(self, node: ast.Constant) -> Any:
        return node.value if isinstance(node.value, (str, int, float, bool, type(None))) else _UNKNOWN

    def _name(self, node: ast.Name) -> Any:
        return self.names.get(node.id, _UNKNOWN)

    def _text(self, node: ast.JoinedStr) -> Any:
        parts: list[str] = []
        certain = True
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(str(part.value))
                continue
            assert isinstance(part, ast.FormattedValue)
            value = self.value(part.value)
            certain &= (
                part.format_spec is None and part.conversion == -1 and isinstance(value, (str, int, float))
            )
            parts.append(str(value))
        return _bounded("".join(parts)) if certain else _UNKNOWN

    def _sum(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if not isinstance(node.op, ast.Add) or type(left) is not type(right):
            return _UNKNOWN
        return _bounded(left + right) if isinstance(left, (str, tuple)) else _UNKNOWN

    def _list(self, node: ast.List | ast.Tuple) -> Any:
        values = tuple([self.value(each) for each in node.elts])
        return _UNKNOWN if any(value is _UNKNOWN for value in values) else _bounded(values)

    def _each(self, node: ast.ListComp) -> Any:
        """`[.. for name in known]`, calls inside of it included."""
        (loop, *more) = node.generators
        items = self.value(loop.iter)
        simple = not more and not loop.ifs and not loop.is_async and isinstance(loop.target, ast.Name)
        if not simple or not isinstance(items, tuple) or not isinstance(loop.target, ast.Name):
            return _UNKNOWN
        name, before = loop.target.id, dict(self.names)
        values = []
        for item in items:
            self.names[name] = item
            values.append(self.value(node.elt))
        if name in before:
            self.names[name] = before[name]
        else:
            self.names.pop(name, None)
        return _UNKNOWN if any(value is _UNKNOWN for value in values) else _bounded(tuple(values))

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id in (_QUERY, _BATCH):
            self._asked(node, batch=node.func.id == _BATCH)
            return _UNKNOWN
        self.value(node.func)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.value(argument)
        if not (isinstance(node.func, ast.Name) and node.func.id in _HARMLESS):
            self._forget_lists()
        return _UNKNOWN

    def _asked(self, node: ast.Call, *, batch: bool) -> None:
        given = [self.value(argument) for argument in node.args]
        named = {keyword.arg: self.value(keyword.value) for keyword in node.keywords}
        first = given[0] if given else named.get("prompts" if batch else "prompt", _UNKNOWN)
        prompts = first if batch else (first,)
        options = {name: named.get(name) for name in _OPTIONS}
        if len(given) > 1 or None in named or _UNKNOWN in options.values() or not isinstance(prompts, tuple):
            return
        if not all(isinstance(prompt, str) and prompt for prompt in prompts):
            return
        self._prompts += len(prompts)
        if self._prompts > MOST_FORESEEN:
            raise _Full
        self.found += [Foreseen({"prompt": prompt, **options}) for prompt in prompts]


def _bounded(value: Any) -> Any:
    return value if len(value) <= (_MOST_TEXT if isinstance(value, str) else _MOST_ITEMS) else _UNKNOWN


_HARMLESS = frozenset(
    {"print", "len", "str", "repr", "sorted", "sum", "min", "max", "enumerate", "zip", "range", "FINAL"}
)
"""Calls that change no list that they are given."""
_EVALUATED: frozenset[type] = frozenset(
    {ast.Subscript, ast.Attribute, ast.UnaryOp, ast.Starred, ast.Slice, ast.Dict, ast.Set, ast.NamedExpr}
)
"""Expressions all of whose parts are evaluated whenever they are, and that come to something unknown."""
_VALUES: dict[type, Callable[[_Reader, Any], Any]] = {
    ast.Constant: _Reader._constant,
    ast.Name: _Reader._name,
    ast.JoinedStr: _Reader._text,
    ast.BinOp: _Reader._sum,
    ast.List: _Reader._list,
    ast.Tuple: _Reader._list,
    ast.ListComp: _Reader._each,
    ast.Call: _Reader._call,
    ast.Await: lambda reader, node: reader.value(node.value),
}
