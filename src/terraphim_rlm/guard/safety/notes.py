"""What a piece of code was found to do, held against the rules as it is found."""

from __future__ import annotations

from collections.abc import Sequence

from terraphim_rlm.guard.safety.rules import RANK, Rule, RuleSet

MOST_FINDINGS = 100
_MOST_NOTED = 400_000
_RAISED = "high"
"""What is hidden is at least this grave, where a rule knows it at all."""

Finding = list[object]
"""`[rule, severity, start, end, message, advice]`."""


class GaveUp(Exception):
    """The code is more than can be judged."""


class Notes:
    """Collects findings on one piece of code.

    Args:
        rules: what is looked for.
        language: of the code; `inside` changes it for code within code.
    """

    def __init__(self, rules: RuleSet, language: str) -> None:
        self._rules = rules
        self.language = language
        self.pinned: tuple[int, int] | None = None
        """Where everything is said to be: set while code within a string is read."""
        self.depth = 0
        """How many codes within codes deep."""
        self.piped: tuple[int, int] | None = None
        """The pipeline around a command, as the place of what goes through it."""
        self._count = 0
        self._found: dict[tuple[str, int, int], tuple[Rule, str]] = {}
        self._kinds: dict[str, list[tuple[int, int]]] = {}

    def deeper(self, most: int) -> None:
        """Goes into code within code. Whoever calls it takes one off `depth` afterwards.

        Raises:
            GaveUp: that is deeper than `most`. What is not read must not pass as harmless.
        """
        if self.depth >= most:
            raise GaveUp("code stands in code too many times")
        self.depth += 1

    def note(
        self,
        kind: str,
        name: str,
        span: tuple[int, int],
        args: Sequence[str | None] = (),
        hidden: bool = False,
    ) -> None:
        """Something that the code does: rules that know it find it.

        Args:
            kind: what a rule's `match` says.
            args: what it is given; None where that is not known.
            hidden: its name was put together, decoded or looked up, so that reading does not show it.
        """
        self._count += 1
        if self._count > _MOST_NOTED:
            raise GaveUp("it does more than can be judged")
        if kind in ("call", "command"):
            self._kinds.setdefault(name, []).append(span)
        for rule in self._rules.of(kind, name):
            if rule.holds(args, hidden, self.language):
                self.find(rule, span, hidden)

    def find(self, rule: Rule, span: tuple[int, int], hidden: bool = False) -> None:
        """A rule that was broken there."""
        severity = rule.severity
        if hidden and RANK[severity] < RANK[_RAISED]:
            severity = _RAISED
        if severity == "none":
            return
        key = (rule.id, *(self.pinned or span))
        known = self._found.get(key)
        if known is None or RANK[known[1]] < RANK[severity]:
            self._found[key] = (rule, severity)

    def together(self) -> None:
        """Rules on what is harmless by itself; asked once, last."""
        for rule in self._rules.pairs(self.language):
            spans = [self._of(names) for names in rule.sets]
            if all(spans):
                for span in spans[-1]:
                    self.find(rule, span)

    def _of(self, names: Sequence[str]) -> list[tuple[int, int]]:
        return [self.pinned or span for name in names for span in self._kinds.get(name, ())]

    def findings(self) -> list[Finding]:
        """All, by place; the gravest 100 where there are more."""
        found: list[Finding] = [
            [rule.id, severity, start, end, rule.message, rule.advice]
            for (_, start, end), (rule, severity) in self._found.items()
        ]
        if len(found) > MOST_FINDINGS:
            found.sort(key=lambda each: -RANK[str(each[1])])
            del found[MOST_FINDINGS:]
        found.sort(key=lambda each: (each[2], each[3], each[0]))
        return found
