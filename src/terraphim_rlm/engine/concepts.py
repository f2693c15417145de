"""What a run's cells may ask of its knowledge graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.guard import judging

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.library import Knowledge, Library

MOST_ASKED = 50
"""Terms of one call."""
_MOST_GIVEN = 2_000
_MOST_TERM = 200
_EXAMPLES = 8


def library_of(guard: Guard) -> Library | None:
    """The knowledge graph of a run's guard; None without one."""
    return guard.library if isinstance(guard, judging.Guard) else None


def told_of(knowledge: Knowledge | None) -> str:
    """What a model is told of a graph: its name, and the concepts that its documents name most."""
    if knowledge is None:
        return ""
    return prompts.knowledge(
        knowledge.thesaurus.name, [concept.name for concept in knowledge.graph.top(_EXAMPLES)]
    )


async def terms_of(library: Library | None, asked: Any) -> list[str]:
    """All terms that mean what the asked ones mean. The cell looks for them itself, in its own copy of the input.

    Raises:
        InvalidArgument: there is no graph, or a term of it is unknown; the message names those that are near.
    """
    if library is None:
        raise InvalidArgument("This run has no knowledge graph.", fix="Use grep.")
    if not isinstance(asked, list) or not 0 < len(asked) <= MOST_ASKED:
        raise InvalidArgument(f"kg_chunks takes a list of 1 to {MOST_ASKED} terms.")
    knowledge = await library.current()
    found: dict[str, None] = {}
    for term in asked:
        if not isinstance(term, str) or len(term) > _MOST_TERM:
            raise InvalidArgument(f"A term must be text of at most {_MOST_TERM} characters.")
        concept = knowledge.thesaurus.concept(term)
        if concept is None:
            near = knowledge.near.terms(term)
            meant = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Use grep."
            raise InvalidArgument(f"The knowledge graph has no term {term[:80]!r}.", fix=meant)
        found.update(dict.fromkeys(knowledge.thesaurus.synonyms(concept)))
    return list(found)[:_MOST_GIVEN]
