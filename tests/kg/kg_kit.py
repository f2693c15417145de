"""A small domain, as a graph on disk."""

from __future__ import annotations

from pathlib import Path

from terraphim_rlm.guard.kg.graph import RoleGraph
from terraphim_rlm.guard.kg.library import written
from terraphim_rlm.guard.kg.thesaurus import Thesaurus, Writer

CONCEPTS = {
    "background tasks": ["background task", "BackgroundTasks"],
    "middleware": ["middlewares"],
    "routing": ["routes", "router"],
    "websocket": ["web socket"],
    "session": [],
    "lighthouse": [],
    "harbour": ["harbor"],
}
PAGES = {
    "tasks.md": "Background tasks run after the response.\n\nA middleware wraps routing, and routing finds routes.",
    "sockets.md": "A web socket lives in a session. The session passes the middleware and the background task.",
    "sea.md": "The lighthouse stands at the harbour.\n\nHarbor.",
}


def thesaurus() -> Thesaurus:
    writer = Writer("web")
    for name, others in CONCEPTS.items():
        writer.add_all([name, *others], writer.concept(name))
    return writer.thesaurus()


def graph() -> RoleGraph:
    made = RoleGraph(thesaurus())
    for path, text in PAGES.items():
        made.add(path, text)
    return made


def graph_file(folder: Path) -> Path:
    path = folder / "web.kg.json"
    path.write_bytes(written(graph()))
    return path
