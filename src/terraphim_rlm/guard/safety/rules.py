"""The rules as data (`rules.toml`), indexed by what they match."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

RANK: Mapping[str, int] = {"none": 0, "info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
"""Severities. `none` is found only when it is hidden."""
FIELDS = frozenset(
    [
        "id",
        "class",
        "languages",
        "match",
        "names",
        "args",
        "any_args",
        "hidden",
        "severity",
        "message",
        "advice",
        "regex",
        "sets",
    ]
)


class Rule:
    """One rule; see the head of `rules.toml` for its fields."""

    __slots__ = ("advice", "any_args", "args", "hidden", "id", "kind", "languages", "match", "message", "names", "regex", "sets", "severity")  # fmt: skip

    def __init__(self, row: Mapping[str, Any], patterns: Mapping[str, str]) -> None:
        def compiled(text: str) -> re.Pattern[str]:
            return re.compile(re.sub(r"@(\w+)@", lambda m: f"(?:{patterns[m[1]]})", text))

        if unknown := set(row) - FIELDS:
            raise ValueError(f"rule {row.get('id')}: unknown fields {sorted(unknown)}")
        self.id: str = row["id"]
        self.kind: str = row["class"]
        self.match: str = row["match"]
        self.languages = frozenset(row.get("languages", ()))
        self.names: tuple[str, ...] = tuple(row.get("names", ()))
        self.args = tuple(compiled(each) for each in row.get("args", ()))
        self.any_args: bool = row.get("any_args", False)
        self.hidden: bool = row.get("hidden", False)
        self.severity: str = row["severity"]
        self.message: str = row["message"]
        self.advice: str = row["advice"]
        self.regex = compiled(row["regex"]) if "regex" in row else None
        self.sets: tuple[tuple[str, ...], ...] = tuple(map(tuple, row.get("sets", ())))
        if self.severity not in RANK:
            raise ValueError(f"rule {self.id}: no severity {self.severity!r}")

    def holds(self, args: Sequence[str | None], hidden: bool, language: str) -> bool:
        """Whether its conditions hold: each pattern of `args` is found in some argument."""
        if self.hidden and not hidden:
            return False
        if self.languages and language not in self.languages:
            return False
        if self.any_args and not any(arg is not None for arg in args):
            return False
        return all(any(arg is not None and pattern.search(arg) for arg in args) for pattern in self.args)


class RuleSet:
    """All rules."""

    def __init__(self, text: str) -> None:
        data = tomllib.loads(text)
        patterns: dict[str, str] = data["patterns"]
        self.rules = tuple(Rule(row, patterns) for row in data["rule"])
        self.by_id = {rule.id: rule for rule in self.rules}
        if len(self.by_id) != len(self.rules):
            raise ValueError("two rules have one id")
        self._exact: dict[tuple[str, str], list[Rule]] = {}
        self._globs: dict[str, list[tuple[str, Rule]]] = {}
        for rule in self.rules:
            for name in rule.names:
                if name.endswith("*"):
                    self._globs.setdefault(rule.match, []).append((name[:-1], rule))
                else:
                    self._exact.setdefault((rule.match, name), []).append(rule)
        self._known: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._filters: dict[tuple[str, str], tuple[re.Pattern[str], tuple[Rule, ...]]] = {}

    def of(self, kind: str, name: str) -> tuple[Rule, ...]:
        """Rules that match this name."""
        key = (kind, name)
        found = self._known.get(key)
        if found is None:
            globs = [rule for prefix, rule in self._globs.get(kind, ()) if name.startswith(prefix)]
            found = tuple(dict.fromkeys([*self._exact.get(key, ()), *globs]))
            if len(self._known) < 20_000:
                self._known[key] = found
        return found

    def texts(self, kind: str, language: str) -> Iterator[Rule]:
        """Rules that look for a pattern."""
        for rule in self.rules:
            if rule.match == kind and (not rule.languages or language in rule.languages):
                yield rule

    def broken(self, kind: str, language: str, text: str) -> list[Rule]:
        """Rules of a kind whose pattern is found in a text."""
        known = self._filters.get((kind, language))
        if known is None:
            rules = tuple(rule for rule in self.texts(kind, language) if rule.regex is not None)
            any_of = "|".join(f"(?:{rule.regex.pattern})" for rule in rules if rule.regex is not None)
            known = self._filters[kind, language] = (re.compile(any_of or r"(?!)"), rules)
        if known[0].search(text) is None:
            return []
        return [rule for rule in known[1] if rule.regex is not None and rule.regex.search(text)]

    def pairs(self, language: str) -> Iterator[Rule]:
        """Rules on several things together."""
        for rule in self.rules:
            if rule.sets and (not rule.languages or language in rule.languages):
                yield rule

    def first_of(self, kind: str) -> Rule:
        """The one rule of a kind that has but one."""
        return next(rule for rule in self.rules if rule.match == kind)


@cache
def rule_set() -> RuleSet:
    """The rules of the package."""
    return RuleSet(Path(__file__).with_name("rules.toml").read_text(encoding="utf-8"))
