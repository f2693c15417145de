"""What Python code does, as far as its syntax tells: names are followed to what they mean, constants are put together.

The code is parsed by `ast.parse`, which neither runs nor compiles it. Its scopes are gone through in order with an
abstract value for each name: a plain constant, a path such as `os.system`, a function of the code itself, or unknown.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

from terraphim_rlm.guard.safety import folding, python_calls, python_names
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.python_expressions import Expressions, TooMany
from terraphim_rlm.guard.safety.python_names import Class, Function, Ref, Scope, canonical
from terraphim_rlm.guard.safety.reading import Unparsed

_DEEP = 30_000
_MOST_UNROLLED = 512
_MOST_CALLS = 4
"""Levels to which the code's own functions are followed with what they are given."""


def read(code: str, notes: Notes, scope: Scope | None = None) -> Any:
    """Notes what `code` does.

    Returns:
        the value of its last expression, for `eval`.

    Raises:
        Unparsed: it is no Python that we know.
    """
    deep = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, OverflowError, UnicodeError) as error:
        raise Unparsed from error
    finally:
        sys.setrecursionlimit(deep)
    sys.setrecursionlimit(_DEEP)
    reader = Reader(code, notes, scope or Scope())
    reader.body(tree.body)
    reader.finish()
    return reader.last


class Reader(Expressions):
    """Goes through one tree, statement by statement."""

    # statements

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        """One statement, and all in it."""
        if self._again:
            self.step()
        known = _STATEMENTS.get(type(node))
        if known is not None:
            known(self, node)
            return
        for child in ast.iter_child_nodes(node):
            self.child(child)

    def _expression(self, node: ast.Expr) -> None:
        self.last = self.value(node.value)

    def _assign(self, node: ast.Assign) -> None:
        value = self.value(node.value, used=True)
        for target in node.targets:
            self.bind(target, value, node)

    def _annotated(self, node: ast.AnnAssign) -> None:
        self.value(node.annotation)
        if node.value is not None:
            self.bind(node.target, self.value(node.value, used=True), node)

    def _augmented(self, node: ast.AugAssign) -> None:
        right = self.value(node.value)
        left = self.value(node.target) if isinstance(node.target, ast.Name) else UNKNOWN
        self.bind(node.target, self.operation(node, type(node.op).__name__, left, right), node)

    def bind(self, target: ast.expr, value: Any, node: ast.AST) -> None:
        """Gives a target its value."""
        if isinstance(target, ast.Name):
            self.scope.names[target.id] = value
            python_names.bound(self, target.id, value, node)
        elif isinstance(target, (ast.Tuple, ast.List)):
            known = value if isinstance(value, (list, tuple)) and len(value) == len(target.elts) else None
            for number, each in enumerate(target.elts):
                self.bind(each, known[number] if known is not None else UNKNOWN, node)
        elif isinstance(target, ast.Attribute):
            base = self.value(target.value)
            if isinstance(base, Class):
                base.scope.names[target.attr] = value
            elif isinstance(target.value, ast.Name):
                self.scope.names[f"{target.value.id}.{target.attr}"] = value
            path = f"{base.path}.{target.attr}" if isinstance(base, Ref) else target.attr
            python_names.bound(self, path, value, node)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, UNKNOWN, node)
        elif isinstance(target, ast.Subscript):
            base, key = self.value(target.value), self.value(target.slice)
            if type(base) is dict and isinstance(key, (str, int)) and len(base) < folding.MOST:
                base[key] = value
            if isinstance(base, Ref) and isinstance(key, str):
                python_names.bound(self, f"{base.path}.{key}", value, node)

    def _import(self, node: ast.Import) -> None:
        for name in node.names:
            self.notes.note("import", name.name, self.span(node))
            top = name.name.partition(".")[0]
            self.scope.names[name.asname or top] = Ref(name.name if name.asname else top)

    def _from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        self.notes.note("import", module, self.span(node))
        for name in node.names:
            if name.name == "*":
                for each in python_names.STARS.get(module, ()):
                    self.scope.names.setdefault(each, Ref(canonical(f"{module}.{each}")))
                continue
            ref = Ref(canonical(f"{module}.{name.name}"))
            self.scope.names[name.asname or name.name] = ref
            self.notes.note("from", ref.path, self.span(node))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        defaults = [
            self.value(each, used=True) for each in (*arguments.defaults, *arguments.kw_defaults) if each
        ]
        function = Function(node, self.scope, defaults[: len(arguments.defaults)])
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if each.annotation is not None:
                self.value(each.annotation)
        if node.returns is not None:
            self.value(node.returns)
        value: Any = function
        for decorator in reversed(node.decorator_list):
            value = python_calls.decorated(self, decorator, value)
        self.scope.names[node.name] = value
        self._later.append((function, self.scope))

    def _class(self, node: ast.ClassDef) -> None:
        for each in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self.value(each, used=True)
        made = Class(Scope(self.scope), [self.value(each) for each in node.bases])
        outer, self.scope = self.scope, made.scope
        try:
            self.body(node.body)
        finally:
            self.scope = outer
        value: Any = made
        for decorator in reversed(node.decorator_list):
            value = python_calls.decorated(self, decorator, value)
        self.scope.names[node.name] = value

    def finish(self) -> None:
        """Goes through the functions whose turn has not come, with arguments that nobody knows."""
        while self._later:
            function, scope = self._later.pop(0)
            if id(function.node) not in self._seen:
                self._seen.add(id(function.node))
                self._run(function, scope, {})

    def _run(self, function: Function, scope: Scope, given: dict[str, Any]) -> Any:
        outer, self.scope = self.scope, Scope(scope)
        try:
            for name in function.parameters:
                self.scope.names[name] = UNKNOWN
            self.scope.names |= given
            if isinstance(function.node, ast.Lambda):
                return self.value(function.node.body)
            self.body(function.node.body)
            return self._returned(function.node)
        finally:
            self.scope = outer

    def _returned(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:
        """What a function gives, where its last statement says it."""
        last = node.body[-1]
        if isinstance(last, ast.Return) and last.value is not None:
            return self.scope.names.get(" return", UNKNOWN)
        return UNKNOWN

    def call_own(self, function: Function, args: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
        """Follows a call of the code's own function with what it is given."""
        if self._calls >= _MOST_CALLS or not any(each is not UNKNOWN for each in (*args, *keywords.values())):
            if not isinstance(function.node, ast.Lambda) and len(function.node.body) > 3:
                return UNKNOWN
            if self._calls >= _MOST_CALLS:
                return UNKNOWN
        given = function.given(args, keywords)
        self._calls += 1
        self._again += 1
        later, self._later = self._later, []
        try:
            return self._run(function, function.scope, given)
        except TooMany:
            return UNKNOWN
        finally:
            self._later = later
            self._calls -= 1
            self._again -= 1

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.scope.names[" return"] = self.value(node.value, used=True)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        values = self.value(node.iter)
        if (
            isinstance(values, (str, bytes, list, tuple))
            and 0 < len(values) <= _MOST_UNROLLED
            and _simple(node)
        ):
            self._unrolled(node, values)
        else:
            self.bind(node.target, UNKNOWN, node)
            self._looped(node.body)
        self.body(node.orelse)

    def _unrolled(self, node: ast.For | ast.AsyncFor, values: Any) -> None:
        self._again += 1
        try:
            for value in values:
                self.bind(node.target, value, node)
                self.body(node.body)
        except TooMany:
            pass
        finally:
            self._again -= 1

    def _while(self, node: ast.While) -> None:
        for_ever = python_names.truth(self.value(node.test))
        for_ever = for_ever and all(isinstance(each, ast.Expr) for each in node.body)
        self.loops += for_ever
        self.body(node.body)
        self.loops -= for_ever
        self.body(node.orelse)

    def _looped(self, body: list[ast.stmt]) -> None:
        self.body(body)

    def _match(self, node: ast.Match) -> None:
        subject = self.value(node.subject)
        for case in node.cases:
            python_names.captured(self, case.pattern, subject)
            if case.guard is not None:
                self.value(case.guard)
            self.body(case.body)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            value = self.value(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, node)
        self.body(node.body)


def _simple(node: ast.For | ast.AsyncFor) -> bool:
    """Whether a loop only puts values together, so that it is worth following."""
    return len(node.body) <= 8 and all(
        isinstance(each, (ast.Assign, ast.AugAssign, ast.Expr)) for each in node.body
    )


_STATEMENTS: dict[type, Any] = {
    ast.Expr: Reader._expression,
    ast.Assign: Reader._assign,
    ast.AnnAssign: Reader._annotated,
    ast.AugAssign: Reader._augmented,
    ast.Import: Reader._import,
    ast.ImportFrom: Reader._from,
    ast.FunctionDef: Reader._function,
    ast.AsyncFunctionDef: Reader._function,
    ast.ClassDef: Reader._class,
    ast.Return: Reader._return,
    ast.For: Reader._for,
    ast.AsyncFor: Reader._for,
    ast.While: Reader._while,
    ast.Match: Reader._match,
    ast.With: Reader._with,
    ast.AsyncWith: Reader._with,
}
