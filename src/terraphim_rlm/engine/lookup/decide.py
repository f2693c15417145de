"""From findings to an answer, without doing any input or output.

`decide` is a generator: it yields batches of model requests, is sent the replies (None for one that failed), and
returns the result. Whoever drives it says where the model is and what it may cost.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.values import Confidence, Evidence
from terraphim_rlm.engine.lookup import leaves
from terraphim_rlm.engine.lookup.judge import (
    Candidate,
    ReadSpan,
    Thresholds,
    candidates,
    certain,
    settled,
    states_kind,
)
from terraphim_rlm.engine.lookup.question import Plan
from terraphim_rlm.guest.retrieve import stems
from terraphim_rlm.llm.client import ModelReply, ModelRequest

Steps = Generator[Sequence[ModelRequest], Sequence[ModelReply | None], "LookupResult"]
RERANK = 6
"""Sentences that the model reads when the question's words do not settle it."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What looking up came to; the parts of an `Answer` that the look-up knows."""

    text: str
    value: str | None
    """The words of `text` that answer; None when not found. When verified, it is all of `text` unless the host can
    tell by itself which words answer, because only one number, time or name in it comes into question."""
    confidence: Confidence
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    """One sentence: why it was let through or refused."""


def not_found(reason: str) -> LookupResult:
    return LookupResult("not found", None, "not_found", (), reason)


def decide(plan: Plan, findings: Any, read: ReadSpan, thresholds: Thresholds = Thresholds()) -> Steps:  # noqa: B008
    """Judges what retrieval found and asks the model where judgement is needed.

    Args:
        plan: the question's plan, made by the host.
        findings: what the sandbox returned; hostile.
        read: the host's own copy of the input.
        thresholds: what counts as support.
    """
    found = candidates(plan, findings, read)
    able = [c for c in found if states_kind(plan, c)]
    if literal := [c for c in able if c.literal(thresholds)]:
        best = max(literal, key=lambda c: (c.own, c.like))
        sure = certain(plan, best, found)
        reason = (
            "Every term of the question stands in the quote." if sure else "Most terms stand in the quote."
        )
        return (yield from _answer(plan, best, "verified" if sure else "unverified", reason, read))
    if any(c.anchor for c in plan.concepts):
        return not_found("No sentence says this of the names, numbers or identifiers in the question.")
    close = [c for c in able if c.paraphrase(thresholds)][:RERANK]
    if not close:
        return not_found("No sentence comes close enough to the question.")
    return (yield from _paraphrase(plan, close, read, thresholds))


def _paraphrase(plan: Plan, close: Sequence[Candidate], read: ReadSpan, thresholds: Thresholds) -> Steps:
    """The candidate whose breadth and likelihood together are best, if they are good enough.

    Likelihood is compared with that after a sentence about nothing, per character of the question.
    """
    replies = yield [
        leaves.likelihood(plan.question, text) for text in (leaves.NOTHING, *(c.text for c in close))
    ]
    scores = [leaves.read_likelihood(reply) if reply else None for reply in replies]
    known = [score for score in scores if score is not None]
    if len(known) == len(scores):
        worth = [
            c.breadth + (s - known[0]) / len(plan.question) for c, s in zip(close, known[1:], strict=True)
        ]
        least = thresholds.worth
    else:
        worth, least = [c.breadth for c in close], thresholds.alone
    best = max(range(len(close)), key=worth.__getitem__)
    if worth[best] < least:
        return not_found("The sentences that come closest do not answer the question.")
    return (yield from _answer(plan, close[best], "unverified", "The quote says it in other words.", read))


def _answer(plan: Plan, best: Candidate, confidence: Confidence, reason: str, read: ReadSpan) -> Steps:
    (reply,) = yield [leaves.extraction(plan.question, best.text)]
    value = leaves.read_extraction(reply, best.text) if reply else None
    if value is None or not _says_more(plan, value):
        value, confidence = best.text, "unverified"  # the model saw no answer in it
    if confidence == "verified" and not settled(plan, best, value):
        value = best.text
    evidence = vouch(best, read)
    if not evidence.verified:
        return not_found("The quote could not be read again at its place.")
    return LookupResult(best.text, value, confidence, (evidence,), reason)


def _says_more(plan: Plan, value: str) -> bool:
    """Whether a value is more than an echo of the question."""
    own = set().union(*(c.own for c in plan.concepts))
    return bool(stems(value.encode()) - own)


def vouch(candidate: Candidate, read: ReadSpan) -> Evidence:
    """The evidence, with the quote read once more and its line counted by the host."""
    raw = read(candidate.path, candidate.start, candidate.end)
    same = raw is not None and raw.decode("utf-8", "replace") == candidate.quote
    line = 1
    for start in range(0, candidate.start, _BLOCK):
        line += (read(candidate.path, start, min(start + _BLOCK, candidate.start)) or b"").count(b"\n")
    return Evidence(candidate.path, candidate.start, candidate.end, line, candidate.quote, same)
