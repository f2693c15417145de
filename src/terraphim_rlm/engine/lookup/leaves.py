"""The small questions that a model is asked, and the grammars that keep its replies to the point.

Measured with SmolLM2-135M: asked for the number of the right sentence, or for yes or no, it guesses. How likely
it finds the question after having read a sentence does tell right from wrong, and copying a few words out
of a sentence mostly works. So these two are the leaves. A grammar is always built here, in the host, from the
host's own copy of the input.
"""

from __future__ import annotations

import math
import re

from terraphim_rlm.llm.client import Message, ModelReply, ModelRequest

MAX_SENTENCE = 240
"""Characters of a sentence that a leaf shows; keeps a leaf under about 150 tokens."""
GLANCE = 160
"""The same where the model only compares sentences, which it does several times a question."""
MAX_WORDS = 12
"""Longest extracted answer."""

NOTHING = "This is a line of text that says nothing in particular about anyone or anything."
"""What a likelihood is compared with."""

_LIKELY = "Text: {sentence}\nA question about the text:"
_EXTRACT = """Text: The miller Adams bought a piano in Hartow in 1831.
Question: Which instrument did Adams buy?
Answer: a piano
Text: The fence of the old school is 40 metres long and grey.
Question: How long is the fence?
Answer: 40 metres
Text: The hens behind the clinic were fed by nurse Perkins.
Question: Who fed the hens?
Answer: Perkins
Text: {sentence}
Question: {question}
Answer:"""


def _line(text: str, limit: int) -> str:
    """One line of printable text; control characters and line ends become blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def likelihood(question: str, sentence: str) -> ModelRequest:
    """Asks how likely the question is after the sentence: the reply can only be the question itself.

    The client puts the sum of the tokens' natural log-probabilities into `details["logprob"]`.
    """
    asked = " " + _line(question, 300)
    prompt = _LIKELY.format(sentence=_line(sentence, GLANCE))
    return ModelRequest(
        (Message("user", prompt),),
        max_tokens=len(asked) + 1,
        temperature=0.0,
        grammar=f"root ::= {_literal(asked)}",
        raw=True,
    )


def read_likelihood(reply: ModelReply) -> float | None:
    """The log-probability that the client reported, or None when it cannot report any."""
    value = reply.details.get("logprob")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def extraction(question: str, sentence: str) -> ModelRequest:
    """Asks for the answer as at most `MAX_WORDS` words that stand next to each other in the sentence."""
    words = _line(sentence, MAX_SENTENCE).split()
    prompt = _EXTRACT.format(sentence=" ".join(words), question=_line(question, 300))
    return ModelRequest(
        (Message("user", prompt),),
        max_tokens=48,
        temperature=0.0,
        grammar=_span_grammar(words),
        raw=True,
    )


def _span_grammar(words: list[str]) -> str:
    """Any run of words of a sentence: one rule per word, `wN ::= word (" " wN+1)?`, then the line's end."""
    rules = []
    for index, word in enumerate(words):
        rest = f' (" " w{index + 1})?' if index + 1 < len(words) else ""
        rules.append(f"w{index} ::= {_literal(word)}{rest}")
    starts = " | ".join(f"w{index}" for index in range(len(words)))
    return "\n".join([f'root ::= " " ({starts}) "\\n"', *rules])


def read_extraction(reply: ModelReply, sentence: str) -> str | None:
    """The extracted words, or None when they do not stand in the sentence (the grammar was not kept)."""
    text = reply.text.strip().strip(".,;:!?")
    words = (text if "(" in text else text.rstrip(")")).split()
    plain = " ".join(sentence.split())
    value = " ".join(words[:MAX_WORDS])
    if not value or not re.search(rf"(?<!\w){re.escape(value)}", plain):
        return None
    return value
