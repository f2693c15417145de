# ruff: noqa: SIM905 -- words are easier to read and to add as text
"""What is known about English: words that carry no topic, irregular forms, and words of like meaning."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterator
from importlib import resources

STOP = frozenset(
    """a about above after again all also am an and any are aren as at be became because been before being below
    between both but by can could did do does doesn doing don down during each either else every few for from
    further get gets got had has have having he her here hers him his how i if in into is isn it its itself
    just let like ll may me might more most much must my no nor not now of off on once one only or other ought our
    out over own per please re same shall she should so some such tell than that the their them then there
    these they this those through to too under until up upon us ve very was wasn we were what when where which
    while who whom whose why will with within without would you your
    say says said mean means there's according document text file files anything someone somebody something
    used uses using exactly actually way thing things many long far often old kind sort give given name named called""".split()
)
"""Never a concept of a question, except where a name is meant."""

LIGHT = frozenset(
    """carry carries carried take takes took taken make makes made making hold holds held contain contains contained stand stands
    stood lie lies lay go goes went gone come comes came happen happens happened serve serves served
    need needs needed belong belongs find finds exist exists work works""".split()
)
"""Verbs so general that a true sentence often does without them; hints at most."""

ASKING = frozenset(
    "what which who whom whose when where why how is are was were do does did can could".split()
)

_IRREGULAR = """
be is are was were been|become became|begin began begun|bend bent|bind bound|bite bit bitten|blow blew blown|break broke broken
bring brought|build built|burn burnt burned|buy bought|catch caught|choose chose chosen|come came|cost costs|cut cuts
dig dug|draw drew drawn|drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt
fight fought|find found|fly flew flown|forget forgot forgotten|freeze froze frozen|give gave given|go went gone
grow grew grown|hang hung|hear heard|hide hid hidden|hold held|keep kept|know knew known|lay laid|lead led
leave left leaving|lend lent|light lit|lose lost|make made making|meet met|pay paid|read reads|ride rode ridden|ring rang rung
rise rose risen|run ran|see saw seen|seek sought|sell sold|send sent|set sets setting|shine shone|shoot shot
show shown showed|shut shuts|sing sang sung|sink sank sunk|sit sat|sleep slept|speak spoke spoken|spend spent
stand stood|steal stole stolen|stick stuck|strike struck|swim swam swum|take took taken|teach taught|tell told
think thought|throw threw thrown|understand understood|wear wore worn|weave wove woven|win won|write wrote written
die died dying dies|lie lay lain|use used using uses|try tried tries trying|use used|man men|woman women|child children
foot feet|tooth teeth|mouse mice|life lives|wife wives|knife knives|leaf leaves|half halves|person people
index indices indexes|matrix matrices|datum data
"""


def _groups(table: str) -> Iterator[list[str]]:
    for group in table.replace("\n", "|").split("|"):
        if words := group.split():
            yield words


def _index(table: str) -> dict[str, tuple[str, ...]]:
    index: dict[str, dict[str, None]] = {}
    for words in _groups(table):
        for word in words:
            index.setdefault(word, {}).update(dict.fromkeys(w for w in words if w != word))
    return {word: tuple(others) for word, others in index.items()}


IRREGULAR = _index(_IRREGULAR)
"""Word -> other forms of the same word."""


@functools.cache
def _neighbours() -> dict[bytes, bytes]:
    packed = resources.files("terraphim_rlm.engine.lookup").joinpath("neighbours.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).split(b"\n")
    return {line[: line.index(b"\t")]: line for line in lines if b"\t" in line}


def like(stem: str) -> tuple[tuple[str, float], ...]:
    """Stems of words of like meaning, nearest first, with the cosine of their vectors, 0.24 to 1.

    The vectors are those of SmolLM2-135M (Apache-2.0); `scripts/make-neighbours` made the table.
    """
    line = _neighbours().get(stem.encode(), b"").decode()
    pairs = (entry.split(" ") for entry in line.split("\t")[1:])
    return tuple((word, int(hundredths) / 100) for word, hundredths in pairs)
