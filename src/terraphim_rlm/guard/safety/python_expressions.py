"""Expressions of Python code: what each comes to, where that can be told, and what it does."""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from typing import Any

from terraphim_rlm.guard.safety import folding, python_calls, python_names
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.python_names import Function, Ref, Scope

_MOST_STEPS = 20_000
"""Nodes that are gone through more than once, in loops and in functions."""
_HUGE = 1 << 27


class TooMany(Exception):
    """A loop or function that goes on for longer than it is followed."""


class Expressions(ABC):
    """What the expressions of one tree come to."""

    def __init__(self, code: str, notes: Notes, scope: Scope) -> None:
        self.code = code
        self.notes = notes
        self.scope = scope
        self.last: Any = UNKNOWN
        self._starts: list[int] | None = None
        self._lines: list[str] = []
        self._later: list[tuple[Function, Scope]] = []
        self._calls = 0
        self._again = 0
        self.steps = 0
        self.loops = 0
        self._seen: set[int] = set()

    # places

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node stands, in characters."""
        if self._starts is None:
            self._lines = self.code.splitlines(keepends=True) if "\f" not in self.code else self._split()
            if any(sep in self.code for sep in "\x0b\x1c\x1d\x1e\x85\u2028\u2029"):
                self._lines = self._split()
            self._starts = [0]
            for line in self._lines:
                self._starts.append(self._starts[-1] + len(line))
        line, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1  # type: ignore[attr-defined]
        return self._place(line, node.col_offset), self._place(end, node.end_col_offset or 0)  # type: ignore[attr-defined]

    def _split(self) -> list[str]:
        """Lines as Python counts them: `\\n`, `\\r\\n` and `\\r` end one, nothing else does."""
        return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", self.code)

    def _place(self, line: int, column: int) -> int:
        assert self._starts is not None
        if line >= len(self._lines):
            return len(self.code)
        text = self._lines[line]
        if not text.isascii():
            column = len(text.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "ignore"))
        return self._starts[line] + column

    def child(self, child: ast.AST) -> None:
        if isinstance(child, ast.stmt):
            self.statement(child)
        elif isinstance(child, ast.expr):
            self.value(child)
        else:
            for each in ast.iter_child_nodes(child):
                self.child(each)

    # what statements do

    @abstractmethod
    def statement(self, node: ast.stmt) -> None:
        """One statement, and all in it."""

    @abstractmethod
    def bind(self, target: ast.expr, value: Any, node: ast.AST) -> None:
        """Gives a target its value."""

    @abstractmethod
    def call_own(self, function: Function, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
        """Follows a call of the code's own function with what it is given."""

    def step(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise TooMany

    @property
    def for_ever(self) -> bool:
        """Whether this stands in a loop that has no end."""
        return self.loops > 0

    # expressions

    def value(self, node: ast.expr, *, used: bool = False) -> Any:
        """What an expression comes to; all that it does is noted.

        Args:
            used: a function that it names is kept, or handed on, to be called.
        """
        kind = type(node)
        if kind is ast.Constant:
            return node.value  # type: ignore[attr-defined]
        if self._again:
            self.step()
        known = _EXPRESSIONS.get(kind)
        value = known(self, node) if known is not None else self._generic(node)
        if used and isinstance(value, Ref):
            python_calls.referred(self, value, node)
        return value

    def _generic(self, node: ast.expr) -> Any:
        for child in ast.iter_child_nodes(node):
            self.child(child)
        return UNKNOWN

    def _name(self, node: ast.Name) -> Any:
        found = self.scope.get(node.id)
        return python_names.unset(node.id) if found is None else found

    def _attribute(self, node: ast.Attribute) -> Any:
        base = self.value(node.value)
        if base is UNKNOWN and isinstance(node.value, ast.Name):
            known = self.scope.get(f"{node.value.id}.{node.attr}")
            if known is not None:
                return known
        return python_names.attribute(self, base, node.attr, node)

    def _subscript(self, node: ast.Subscript) -> Any:
        base = self.value(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = [
                None if each is None else self.value(each)
                for each in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            if isinstance(base, (str, bytes, list, tuple)) and all(
                each is None or type(each) is int for each in parts
            ):
                try:
                    return base[slice(*parts)]
                except ValueError:
                    return UNKNOWN
            return UNKNOWN
        return python_names.item(self, base, self.value(node.slice), node)

    def _operation(self, node: ast.BinOp) -> Any:
        left = self.value(node.left)
        return self.operation(node, type(node.op).__name__, left, self.value(node.right))

    def operation(self, node: ast.AST, kind: str, left: Any, right: Any) -> Any:
        """A binary operator's value."""
        if kind in ("Pow", "LShift", "Mult") and _is_huge(kind, left, right):
            self.notes.note("huge", kind, self.span(node))
        if folding.is_plain(left) and folding.is_plain(right):
            return folding.operation(kind, left, right)
        if kind == "Add" and isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            return [*left, *right] if len(left) + len(right) < folding.MOST else UNKNOWN
        return UNKNOWN

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = []
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                value = self.value(each.value)
                if each.format_spec is not None:
                    self.value(each.format_spec)
                    value = UNKNOWN
                parts.append(
                    str(value) if isinstance(value, (str, int)) and each.conversion == -1 else UNKNOWN
                )
            else:
                parts.append(self.value(each))
        if any(each is UNKNOWN for each in parts):
            return UNKNOWN
        return folding.bounded("".join(parts))

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Any:
        found: list[Any] = []
        for each in node.elts:
            if isinstance(each, ast.Starred):
                inner = self.value(each.value)
                found.extend(
                    inner
                    if isinstance(inner, (list, tuple, str, bytes)) and len(inner) <= folding.MOST
                    else [UNKNOWN]
                )
            else:
                found.append(self.value(each, used=True))
        return tuple(found) if isinstance(node, ast.Tuple) else found

    def _dict(self, node: ast.Dict) -> Any:
        found: dict[Any, Any] = {}
        for key, each in zip(node.keys, node.values, strict=True):
            value = self.value(each, used=True)
            known = UNKNOWN if key is None else self.value(key)
            if isinstance(known, (str, int, bytes)):
                found[known] = value
        return found

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Any:
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            if len(node.generators) == 1 and not node.generators[0].ifs:
                values = self.value(node.generators[0].iter)
                if isinstance(values, (str, bytes, list, tuple)) and len(values) <= 4096:
                    return self._elements(node, values)
            for each in node.generators:
                self.value(each.iter)
                self.bind(each.target, UNKNOWN, node)
                for condition in each.ifs:
                    self.value(condition)
            self.value(node.elt)
            return UNKNOWN
        finally:
            self.scope = outer

    def _elements(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, values: Any) -> Any:
        found = []
        self._again += 1
        try:
            for value in values:
                self.bind(node.generators[0].target, value, node)
                found.append(self.value(node.elt, used=True))
            return found
        except TooMany:
            return UNKNOWN
        finally:
            self._again -= 1

    def _lambda(self, node: ast.Lambda) -> Any:
        defaults = [self.value(each, used=True) for each in node.args.defaults]
        function = Function(node, self.scope, defaults)
        self._later.append((function, self.scope))
        return function

    def _walrus(self, node: ast.NamedExpr) -> Any:
        value = self.value(node.value, used=True)
        self.bind(node.target, value, node)
        return value

    def _choice(self, node: ast.IfExp) -> Any:
        self.value(node.test)
        first, second = self.value(node.body, used=True), self.value(node.orelse, used=True)
        return (
            first
            if second is UNKNOWN or second is None
            else second
            if first is UNKNOWN or first is None
            else first
        )

    def _either(self, node: ast.BoolOp) -> Any:
        values = [self.value(each, used=True) for each in node.values]
        if isinstance(node.op, ast.Or):
            return next((each for each in values if each is not UNKNOWN and each), UNKNOWN)
        return values[-1]

    def _unary(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if type(value) is int:
            return (
                -value
                if isinstance(node.op, ast.USub)
                else ~value
                if isinstance(node.op, ast.Invert)
                else UNKNOWN
            )
        return UNKNOWN

    def _awaited(self, node: ast.Await) -> Any:
        return self.value(node.value)

    def _call(self, node: ast.Call) -> Any:
        return python_calls.call(self, node)


def _is_huge(kind: str, left: Any, right: Any) -> bool:
    """Whether an operation makes what fills the memory or takes for ever."""
    if kind == "Mult":
        many, times = (right, left) if isinstance(left, int) else (left, right)
        return (
            isinstance(many, (str, bytes, list, tuple))
            and type(times) is int
            and len(many) * times > _HUGE * 8
        )
    if kind == "LShift":
        return type(left) is int and type(right) is int and left != 0 and right > _HUGE
    if type(left) is not int or (type(right) is not int and right is not UNKNOWN) or right is UNKNOWN:
        return False
    return abs(left) > 1 and right > 0 and left.bit_length() * right > _HUGE


_EXPRESSIONS: dict[type, Any] = {
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.Subscript: Expressions._subscript,
    ast.BinOp: Expressions._operation,
    ast.JoinedStr: Expressions._joined,
    ast.List: Expressions._sequence,
    ast.Tuple: Expressions._sequence,
    ast.Set: Expressions._sequence,
    ast.Dict: Expressions._dict,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.Lambda: Expressions._lambda,
    ast.NamedExpr: Expressions._walrus,
    ast.IfExp: Expressions._choice,
    ast.BoolOp: Expressions._either,
    ast.UnaryOp: Expressions._unary,
    ast.Await: Expressions._awaited,
    ast.Call: Expressions._call,
}
