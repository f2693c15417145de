"""What one parse may spend, so that no reply costs more than linear time."""

from __future__ import annotations

import ast
import warnings

MAX_PARSED = 64_000
"""Characters of the longest code that is checked; longer code is taken as the fences say."""
MAX_PARSES = 256
MAX_PARSED_TOTAL = 512_000
_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Work:
    """Counts down the checks and look-aheads of one parse."""

    def __init__(self, size: int) -> None:
        self._parses = MAX_PARSES
        self._chars = MAX_PARSED_TOTAL
        self._scan = 4 * size + 10_000

    @property
    def may_look(self) -> bool:
        """Whether there is anything left to pay with for looking ahead."""
        return self._scan > 0

    def looked(self, chars: int) -> None:
        """Pays for `chars` characters that were looked at and will be looked at again."""
        self._scan -= chars

    def python(self, code: str) -> bool | None:
        """Whether `code` is Python (top-level await allowed); None when it was not looked at."""
        return None if self._beyond(code) else self.tree(code) is not None

    def tree(self, code: str) -> ast.Module | None:
        """The syntax tree of `code`; None when it is not Python or was not looked at.

        Code of strangers is parsed in the host: the parser's own depth guards turn hostile nesting into
        MemoryError and RecursionError, and its time grows with the text, which is bounded here.
        """
        if self._beyond(code):
            return None
        self._parses -= 1
        self._chars -= len(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = compile(code, "<reply>", "exec", _FLAGS, dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
                return None
        assert isinstance(tree, ast.Module)
        return tree

    def _beyond(self, code: str) -> bool:
        return len(code) > min(MAX_PARSED, self._chars) or not self._parses
