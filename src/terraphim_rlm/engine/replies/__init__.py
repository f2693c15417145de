"""A model's reply becomes commands: `parse(reply) -> ParsedReply`.

Two dialects count anywhere in a reply: fenced blocks tagged with a language that runs, and the command
words at the start of a line outside of every fence. Tool-call markup of the common families is read too.

- All blocks run in their order; `engine` stops at the first that fails.
- Not run, and listed in `dropped` with the reason: what is quoted (`>`, a longer fence), tagged as text or
  output, untagged, indented as code, in thinking, unterminated, misspelt, or in a language that does not run.
- A FINAL after code, or after a sub-call, is held, and all that follows it is dropped: its writer had not
  seen the output. A FINAL before code ends the reply.
- Output that the model made up after a block leaves the transcript, up to the next command. So does what
  follows its own end-of-turn token. Everything else stays byte for byte.
- A reply that is nothing but code without a fence is no command: a sentence can be valid Python too, and a
  fence is cheap to ask for. An untagged block is none for the same reason: it is how output is shown.
- Code that does not parse is repaired where one known slip explains it, and `Code.repairs` names the repair.
- A shell block or RUN is `Shell`; blocks of every other language are `Code`.
"""

from terraphim_rlm.engine.replies.commands import (
    LANGUAGES,
    REASONS,
    Code,
    Command,
    Dropped,
    Final,
    FinalVar,
    ParsedReply,
    Query,
    QueryBatched,
    Reason,
    Rollback,
    Shell,
    Snapshot,
)
from terraphim_rlm.engine.replies.cut import parse_cut
from terraphim_rlm.engine.replies.parser import parse

__all__ = [
    "parse", "parse_cut", "ParsedReply", "Command", "Code", "Shell", "Final", "FinalVar", "Snapshot", "Rollback", "Query",
    "QueryBatched", "Dropped", "Reason", "REASONS", "LANGUAGES",
]  # fmt: skip
