"""A model's reply becomes commands: `parse(reply) -> ParsedReply`. The rules are in docs/design/replies.md."""

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
from terraphim_rlm.engine.replies.parser import parse

__all__ = [
    "parse", "ParsedReply", "Command", "Code", "Shell", "Final", "FinalVar", "Snapshot", "Rollback", "Query",
    "QueryBatched", "Dropped", "Reason", "REASONS", "LANGUAGES",
]  # fmt: skip
