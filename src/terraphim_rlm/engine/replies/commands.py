"""What a reply can hold: the closed union of commands, and the closed list of why text was not one.

Every `start` and `end` counts characters of the reply; a span covers the whole construct, fences and
tags included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

Language = Literal["python", "bash", "javascript", "rust", "go"]

LANGUAGES: dict[str, Language] = {
    **dict.fromkeys(("python", "py", "python3", "py3", "ipython", "repl", "tool_code"), "python"),
    **dict.fromkeys(("bash", "sh", "shell"), "bash"),
    **dict.fromkeys(("javascript", "js", "node"), "javascript"),
    **dict.fromkeys(("rust", "rs"), "rust"),
    **dict.fromkeys(("go", "golang"), "go"),
}  # fmt: skip
"""Tags that make a block run, in lower case. `bash` blocks become `Shell`, all others `Code`."""

Reason = Literal[
    "invented_output",  # output that the model wrote itself, after a block
    "end_of_turn",  # what follows the model's own end-of-turn token, or a turn it wrote for others
    "thinking",
    "quoted",  # a block or command inside a quotation or a longer fence
    "indented",  # a fence so far to the right that Markdown calls it an indented text
    "unterminated",  # opened and never closed; hides all that follows
    "text_tag",  # a block tagged text, md, json, output ..
    "untagged",  # a block without a language
    "unknown_language",
    "empty",
    "unfenced",  # a reply that is nothing but code
    "final_held",  # FINAL after code, before its output was seen
    "after_final",  # everything after a FINAL, held or not
    "bad_arguments",
    "unbalanced",  # a command word whose parentheses do not close
    "prose",  # a command word that a sentence goes on after
    "misspelt",  # close to a command word; suggested, never run
    "unknown_tool",  # a tool call that names neither a code nor a shell tool
    "too_many",
]
REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Code:
    """A cell for the interpreter of `language`."""

    kind: ClassVar[str] = "code"
    language: Language
    code: str
    """Line endings are `\\n`; no newline at the end."""
    start: int
    end: int
    repairs: tuple[str, ...] = ()
    """Names of the repairs (`repair.REPAIRS`) without which it would not parse."""


@dataclass(frozen=True, slots=True)
class Shell:
    """A command line or script for the shell."""

    kind: ClassVar[str] = "shell"
    command: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Final:
    """The answer, written out."""

    kind: ClassVar[str] = "final"
    text: str
    value: Any
    """JSON: the number, list, object .. that `text` spells, else `text` itself."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FinalVar:
    """The answer is in a variable of the interpreter."""

    kind: ClassVar[str] = "final_var"
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    kind: ClassVar[str] = "snapshot"
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rollback:
    kind: ClassVar[str] = "rollback"
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Query:
    """One sub-call, asked outside a cell."""

    kind: ClassVar[str] = "query"
    prompt: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class QueryBatched:
    kind: ClassVar[str] = "query_batched"
    prompts: tuple[str, ...]
    start: int
    end: int


Command = Code | Shell | Final | FinalVar | Snapshot | Rollback | Query | QueryBatched


@dataclass(frozen=True, slots=True)
class Dropped:
    """Text that could be taken for a command and is none."""

    start: int
    end: int
    reason: Reason
    detail: str = ""
    """The word, tag or tool concerned, at most 40 characters; for `misspelt` the word to suggest."""


@dataclass(frozen=True, slots=True)
class ParsedReply:
    commands: tuple[Command, ...]
    """In the order of the reply; a Final or FinalVar can only be the last."""
    dropped: tuple[Dropped, ...]
    notice: str | None
    """One line for the model; None when there is nothing that it should know."""
    transcript: str
    """The reply as it should stand in the transcript: without what the model invented after a block."""
