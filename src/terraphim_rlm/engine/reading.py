"""What can be seen of a cell from its code alone: whether it reads the input, and whether its answer is made up.

Only hints, for asking a model back: code can always hide what it does. Nothing that protects rests on it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass

_READS = frozenset({"context", "grep", "lines", "slice", "chunks", "tokens", "kg_chunks", "quote", "cite"})
_ASKS = frozenset(
    {
        "llm_query", "query_llm", "llm_query_batched", "rlm_query", "map_query", "filter_query", "reduce_query",
        "classify", "pairs", "tournament",
    }
)  # fmt: skip
_FINISHES = frozenset({"FINAL", "FINAL_VAR", "SUBMIT"})
_MOST = 200_000
"""Characters of code that are looked at; longer code is taken as reading and computing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one cell."""

    reads: bool
    """It names the input, or a helper that searches it."""
    works: bool
    """It reads, asks a model or prints something computed: there is an outcome to be seen."""
    literal: bool
    """It finishes, and every value it finishes with stands written out in it, whatever the rest does."""


_ALL = Facts(reads=True, works=True, literal=False)
_NONE = Facts(reads=False, works=False, literal=False)


@functools.lru_cache(maxsize=64)
def facts(code: str) -> Facts:
    """Of Python code; of code that is none, nothing."""
    if len(code) > _MOST:
        return _ALL
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _NONE
    reads = works = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            reads = reads or node.id in _READS
            works = works or node.id in _ASKS
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            reads = reads or node.value == "context"  # globals()["context"]
        elif isinstance(node, ast.Call) and _called(node) == "print":
            works = works or not all(map(_is_written, node.args))
    return Facts(reads, works or reads, _is_literal(tree))


def same(code: str) -> str:
    """The code without what makes no difference: comments, blank lines, quotes, spaces."""
    if len(code) > _MOST:
        return code
    try:
        return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code.strip()


def _is_literal(tree: ast.Module) -> bool:
    """Whether the cell's answer is written out. One that hangs on a condition, or in a loop, is not."""
    written: dict[str, bool] = {}
    given: list[bool] = []
    for statement in tree.body:
        given += [each for each in _given(statement, written)]
        for name, value in _assigned(statement):
            written[name] = value is not None and _is_written(value, written)
    everywhere = sum(
        1 for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) in _FINISHES
    )
    return bool(given) and all(given) and everywhere <= len(given)


def _given(statement: ast.stmt, written: dict[str, bool]) -> Iterator[bool]:
    """For each value that a top-level statement finishes with, whether it is written out."""
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if isinstance(value, ast.Call) and (name := _called(value)) in _FINISHES:
        arguments = [*value.args, *(keyword.value for keyword in value.keywords)]
        if name == "FINAL_VAR":
            arguments = [_variable(each) for each in arguments]
        yield all(_is_written(each, written) for each in arguments)
    elif isinstance(statement, ast.Assign) and any(map(_is_content, statement.targets)):
        yield _is_written(statement.value, written)


def _variable(argument: ast.expr) -> ast.expr:
    """`FINAL_VAR("x")` gives what `x` holds."""
    if (
        isinstance(argument, ast.Constant)
        and isinstance(argument.value, str)
        and argument.value.isidentifier()
    ):
        return ast.Name(argument.value)
    return argument


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that a statement sets, each with its value where that is plain."""
    plain = isinstance(statement, ast.Assign) and all(
        isinstance(each, ast.Name) for each in statement.targets
    )
    value = statement.value if isinstance(statement, ast.Assign) and plain else None
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        value = statement.value
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, value


def _is_written(node: ast.expr, written: dict[str, bool] | None = None) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return (written or {}).get(name, False)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return all(_is_written(part, written) for part in parts)
        case ast.Dict(keys=keys, values=values):
            return all(key is not None and _is_written(key, written) for key in keys) and all(
                _is_written(value, written) for value in values
            )
        case ast.JoinedStr(values=values):
            return all(_is_written(value, written) for value in values)
        case ast.FormattedValue(value=value):
            return _is_written(value, written)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (
                _is_text(left)
                and _is_text(right)
                and _is_written(left, written)
                and _is_written(right, written)
            )
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return True
    return False


def _is_text(node: ast.expr) -> bool:
    """Sums of numbers are computed; texts put together are written."""
    return not (isinstance(node, ast.Constant) and not isinstance(node.value, str))


def _is_content(target: ast.expr) -> bool:
    match target:
        case ast.Subscript(value=ast.Name(id="answer"), slice=ast.Constant(value="content")):
            return True
        case ast.Name(id="answer"):
            return True
    return False


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
