"""The run that is killed: what its model replies, and how a request is known.

It has every kind of work that a run can have: sub-calls alone, side by side and from threads, a shell, a snapshot, a
child with turns of its own, and three children at once. All that it asks is asked once, so a call that is repeated shows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

QUESTION = "What comes of it?"
BELOW = "What is below?"
PART = re.compile(r"Part (\d+)\?")


def _cell(code: str, tag: str = "python") -> str:
    return f"```{tag}\n{code}\n```"


ROOT = (
    _cell("words = context.split()\nfirst = llm_query('alpha ' + words[0])\nprint(len(words), first)"),
    _cell("many = llm_query_batched([f'item {n} {words[n]}' for n in range(12)])\nprint(len(many), many[0])"),
    "SNAPSHOT(kept)",
    _cell("echo $((6 * 7)) > note.txt; cat note.txt", "bash"),
    _cell(f"deep = rlm_query('{BELOW}', ' '.join(words[:50]))\nprint(deep)"),
    _cell("parts = rlm_query_batched([f'Part {n}?' for n in range(3)])\nprint(parts)"),
    _cell(
        "import concurrent.futures\nwith concurrent.futures.ThreadPoolExecutor(4) as pool:\n"
        "    side = list(pool.map(llm_query, ['side ' + w for w in words[:4]]))\nprint(side)"
    ),
    _cell(
        "result = [len(words), first, many, deep, parts, side, open('note.txt').read()]\nprint(len(result))"
    ),
    "FINAL_VAR(result)",
)
CHILD = (
    _cell("own = context.split()\none = llm_query('deep ' + own[0])\nprint(len(own), one)"),
    _cell("two = llm_query_batched(['deeper ' + w for w in own[:5]])\nprint(two[-1])"),
    _cell("all_of_it = [one, *two]\nFINAL(all_of_it)"),
)


def part(number: str) -> tuple[str, ...]:
    """The replies of one of the children that work at once."""
    return _cell(f"found = llm_query('part {number}')\nprint(found)"), "FINAL_VAR(found)"


def text(chance: random.Random) -> str:
    """An input: words that no other round has."""
    return " ".join(f"w{chance.randrange(10**9):09}" for _ in range(400))


def key_of(messages: list[Mapping[str, Any]]) -> str:
    """What a request asks: question and turn of a node, or the prompt of a sub-call."""
    last = str(messages[-1]["content"])
    turns = re.findall(r"^Turn (\d+)", last, re.MULTILINE)
    questions = re.findall(r"^Question: (.*)$", last, re.MULTILINE)
    return f"turn {turns[-1]} of {questions[-1]}" if turns and questions and len(messages) > 1 else last


def reply_to(key: str) -> str:
    """What the model says; the same to the same request, whoever asks."""
    found = re.fullmatch(r"turn (\d+) of (.*)", key)
    if found is None:
        return f"<{key}>"
    turn, question = int(found[1]), found[2]
    number = PART.fullmatch(question)
    replies = CHILD if question == BELOW else part(number[1]) if number else ROOT
    return replies[turn - 1]


def prompts(words: list[str]) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Every sub-call for a model that the program makes: how it is asked, its arguments, and the keys of its questions."""
    alone = [f"alpha {words[0]}", f"deep {words[0]}", *(f"part {n}" for n in range(3))]
    alone += [f"side {word}" for word in words[:4]]
    for prompt in alone:
        yield "llm_query", {"prompt": prompt}, [prompt]
    items = [f"item {n} {words[n]}" for n in range(12)]
    deeper = [f"deeper {word}" for word in words[:5]]
    for several in (items, deeper):
        yield "llm_query_batched", {"prompts": several}, several
