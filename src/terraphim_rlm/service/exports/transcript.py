"""For training: chat messages, one trajectory a line, one line a node, or several where its transcript was compacted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.service.exports.replies import stretches
from terraphim_rlm.service.exports.story import Node, Story, children_of, text

SCHEMA = "terraphim-rlm/transcript"
SCHEMA_VERSION = 1


def as_trajectories(story: Story) -> Iterator[Mapping[str, Any]]:
    """The objects of the lines. Nodes that never asked their model have none."""
    for node in story.nodes():
        parts = list(stretches(node))
        for at, part in enumerate(parts):
            yield {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "run": story.summary.id,
                "node": node.id,
                "parent": node.parent,
                "depth": node.depth,
                "part": at,
                "parts": len(parts),
                "model": story.summary.model if node.parent is None else text(story.started, "sub_model"),
                "question": node.question or text(story.started, "question"),
                "messages": part.messages,
                "whole": part.whole,
                "turns": [_turn(turn) for turn in part.turns],
                "outcome": _outcome(story, node) if at == len(parts) - 1 else None,
            }


def _turn(turn: Any) -> Mapping[str, Any]:
    return {
        "turn": turn.number,
        "usage": to_json(turn.usage),
        "finish_reason": turn.finish_reason,
        "cells": [cell.status for cell in turn.cells],
        "sub_calls": sum(call.count for cell in turn.cells for call in cell.calls),
    }


def _outcome(story: Story, node: Node) -> Mapping[str, Any]:
    """What came of it; `verified` and the rest may serve as a reward, which is nobody's here to set."""
    below = sum((each.usage for each in node.walk()), Usage())
    common = {"termination": node.termination or None, "usage": to_json(below)}
    if node.parent is not None:
        return common
    spans = children_of(story.answer, "evidence")
    return {
        **common,
        "status": story.summary.status,
        "answer": story.answer.get("text"),
        "value": story.answer.get("value"),
        "confidence": story.answer.get("confidence"),
        "partial": story.answer.get("partial"),
        "quotes": len(spans),
        "quotes_verified": sum(span.get("verified") is True for span in spans),
    }
