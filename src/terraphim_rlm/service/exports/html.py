"""One page a run: answer, quotes, timeline, tree, cost. No script or style but its own, no request to anywhere.

The page's policy names its one script and its one style by their hashes: what a model, a sandbox or an input smuggled
past the escaping would still not run, and nothing could be fetched or sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files

from terraphim_rlm import __version__
from terraphim_rlm.core.values import Usage
from terraphim_rlm.service.exports.branches import Branches
from terraphim_rlm.service.exports.parts import Room, badge, line, money, plural, seconds, shown, tokens
from terraphim_rlm.service.exports.story import Data, Node, Story, children_of, count, text
from terraphim_rlm.service.exports.timeline import draw

_MOST_QUOTES = 500
_MOST_ROWS = 500
_GOOD = {"done", "verified"}
_BAD = {"failed", "interrupted", "cancelled"}


def as_page(story: Story) -> str:
    """The whole page."""
    style, script = _own("page.css"), _own("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    room = Room()
    body = "\n".join(
        [
            _head(story),
            _tiles(story),
            _came(story, room),
            _quotes(story),
            _section("timeline", "Timeline", _KEY + f'<div class="card scroll">{draw(story)}</div>'),
            _section("tree", "What happened", _HINT + Branches(story, room).html()),
            _section("cost", "What it cost", f'<div class="card scroll">{_costs(story)}</div>'),
            _section("setting", "How it was asked", f'<div class="card">{_setting(story)}</div>'),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{line(story.summary.question or story.summary.id, 80)}</title>\n<style>{style}</style></head>\n<body>\n"
        f'{_NAV}<main class="wrap">\n{body}\n'
        f"<footer>{shown(story.summary.id)} · exported by Terraphim RLM {shown(__version__)}</footer>\n"
        f"</main>\n<script>{script}</script></body></html>\n"
    )


def _own(name: str) -> str:
    return files("terraphim_rlm.service.exports").joinpath(name).read_text("utf-8")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


_NAV = (
    '<nav aria-label="Parts of this page"><div class="wrap"><b>Terraphim RLM</b>'
    '<a href="#answer">Answer</a><a href="#timeline">Timeline</a><a href="#tree">What happened</a><a href="#cost">Cost</a>'
    '<button id="theme" type="button">Light or dark</button></div></nav>\n'
)
_KEY = '<p class="key">' + "".join(
    f'<span><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{kind}" width="10" height="10" rx="2"/></svg>{name}</span>'
    for kind, name in (("model", "model replies"), ("cell", "code runs"), ("call", "sub-calls"), ("failed", "failed or cut off"))
) + "</p>"  # fmt: skip
_HINT = (
    '<p class="hint"><button id="open" type="button">Open all</button> <button id="close" type="button">Close all</button> '
    "&nbsp;Keys: <kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> opens, <kbd>e</kbd> opens all, <kbd>c</kbd> closes all, "
    "<kbd>t</kbd> light or dark</p>"
)


def _section(name: str, title: str, inner: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>{inner}</section>'


def _kind(word: str) -> str:
    return "good" if word in _GOOD else "bad" if word in _BAD else "warn"


def _head(story: Story) -> str:
    run = story.summary
    question = text(story.started, "question") or run.question
    badges = [badge(run.status, _kind(run.status))]
    if run.confidence:
        badges.append(badge(run.confidence.replace("_", " "), _kind(run.confidence)))
    if run.termination and run.termination not in ("final", "final_var"):
        badges.append(badge(run.termination.replace("_", " "), "warn"))
    if run.partial:
        badges.append(badge("partial: a limit ended it", "warn"))
    return f'<h1>{shown(question[:4000])}</h1><p class="badges">{"".join(badges)}{badge(run.model)}</p>'


def _tiles(story: Story) -> str:
    run, nodes = story.summary, list(story.nodes())
    took = run.seconds if run.seconds is not None else story.end - run.started
    cached = f"{run.usage.tokens_cached / run.usage.tokens_in:.0%}" if run.usage.tokens_in else "0%"
    facts = {
        "took" if run.seconds is not None else "known of": seconds(took),
        "tokens in": f"{run.usage.tokens_in:,}",
        "tokens out": f"{run.usage.tokens_out:,}",
        "of prompts cached": cached,
        "cost": money(run.usage.microdollars),
        "model calls": f"{run.usage.calls:,}",
        "turns": f"{sum(len(node.turns) for node in nodes):,}",
        "nodes, deepest": f"{len(nodes):,}, {max([node.depth for node in nodes], default=0)}",
    }
    tiles = "".join(
        f'<div class="tile"><span>{name}</span><b>{shown(value)}</b></div>' for name, value in facts.items()
    )
    return f'<div class="tiles">{tiles}</div>'


def _came(story: Story, room: Room) -> str:
    run = story.summary
    answer = text(story.answer, "text") or run.answer
    inner = (
        f'<div class="card answer">{room.cut(answer)}</div>'
        if answer
        else '<div class="card answer none">There is no answer.</div>'
    )
    if not story.finished:
        state = (
            "It is under way."
            if run.status == "running"
            else "Its process died; what it did until then is here."
        )
        inner += f'<p class="said warn">This run has no end in the journal. {state}</p>'
    if run.spent_tokens > run.usage.tokens:
        inner += f'<p class="said warn">{run.spent_tokens:,} tokens count as spent: it had leased them when it was cut off.</p>'
    if run.error:
        inner += f'<p class="said bad">{shown(" ".join(str(run.error.get(name, "")) for name in ("code", "message", "fix")))}</p>'
    warned = [each for node in story.nodes() for each in node.warnings]
    for each in warned[:20]:
        inner += f'<p class="said warn">80 % of {shown(text(each, "limit"))}: {shown(str(each.get("used")))} of {shown(str(each.get("of")))}</p>'
    return _section("answer", "Answer", inner)


def _quotes(story: Story) -> str:
    spans = children_of(story.answer, "evidence")
    if not spans:
        return ""
    found = "".join(_quote(span) for span in spans[:_MOST_QUOTES])
    more = (
        f'<p class="hint">{len(spans) - _MOST_QUOTES:,} more in the jsonl export.</p>'
        if len(spans) > _MOST_QUOTES
        else ""
    )
    return _section("quotes", "Cited", f'<div class="quotes">{found}</div>{more}')


def _quote(span: Data) -> str:
    checked = (
        badge("read by the host", "good") if span.get("verified") is True else badge("not found there", "bad")
    )
    where = f"bytes {count(span, 'start'):,} to {count(span, 'end'):,}"
    return (
        f'<figure class="card"><blockquote tabindex="0">{shown(text(span, "quote")[:20_000])}</blockquote><figcaption>{checked}'
        f"<span>{shown(text(span, 'path'))}</span><span>line {count(span, 'line'):,}</span><span>{where}</span></figcaption></figure>"
    )


def _costs(story: Story) -> str:
    nodes = list(story.nodes())
    most = max([node.usage.tokens for node in nodes], default=0) or 1
    rows = "".join(_cost(node, f"n{at}", most) for at, node in enumerate(nodes[:_MOST_ROWS]))
    if len(nodes) > _MOST_ROWS:
        rest = sum((node.usage for node in nodes[_MOST_ROWS:]), Usage())
        rows += f'<tr><td>{len(nodes) - _MOST_ROWS:,} further nodes</td><td colspan="6">{tokens(rest)}, {money(rest.microdollars)}</td></tr>'
    return (
        '<table><thead><tr><th>node</th><th class="n">calls</th><th class="n">tokens in</th><th class="n">cached</th>'
        f'<th class="n">tokens out</th><th class="n">cost</th><th>share</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _cost(node: Node, name: str, most: int) -> str:
    used = node.usage
    figures = (
        f"{used.calls:,}",
        f"{used.tokens_in:,}",
        f"{used.tokens_cached:,}",
        f"{used.tokens_out:,}",
        money(used.microdollars),
    )
    cells = "".join(f'<td class="n">{each}</td>' for each in figures)
    bar = f'<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="model" width="{100 * used.tokens / most:.1f}" height="8" rx="2"/></svg>'
    return f'<tr><td><a href="#{name}">{line(node.question or "run", 70)}</a></td>{cells}<td class="bar">{bar}</td></tr>'


def _setting(story: Story) -> str:
    about, run = story.started, story.summary
    context = about.get("context")
    facts = {
        "run": run.id,
        "model": run.model,
        "sub-calls by": text(about, "sub_model"),
        "way": text(about, "route"),
        "follows": text(about, "follows"),
        "input": json.dumps(context, ensure_ascii=False)[:2000] if context else "none",
        "limits": json.dumps(about.get("limits"), ensure_ascii=False)[:2000],
        "events": plural(len(story.events), "event"),
    }
    return (
        "<dl>"
        + "".join(f"<dt>{name}</dt><dd>{shown(value)}</dd>" for name, value in facts.items() if value)
        + "</dl>"
    )
