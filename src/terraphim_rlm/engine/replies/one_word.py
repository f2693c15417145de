"""Commands that are said in one word, as the cells that do them."""

from __future__ import annotations

from terraphim_rlm.engine.replies.commands import Command, Query, QueryBatched


def as_code(command: Command) -> str:
    """The cell that does what a `Query` or a `QueryBatched` asks for."""
    if isinstance(command, Query):
        return f"print(llm_query({command.prompt!r}))"
    assert isinstance(command, QueryBatched)
    return f"for _answer in llm_query_batched({list(command.prompts)!r}): print(_answer)"
