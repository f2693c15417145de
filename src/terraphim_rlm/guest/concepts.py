"""Paragraphs of a text that name a concept, by any of its terms: bytes are scanned at C speed, and only what holds the
rarest word of a term is looked at closely.
"""

from . import scan
from .library import load, part

MOST = 8_192
"""Bytes of a paragraph; one that is longer is cut at the ends of lines."""
_WIDTHS = (256, MOST // 2)
"""Bytes on one side of a hit that are looked at; more only where there is no blank line among them."""
_BREAK = rb"\r?\n[ \t\r]*\n"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


class Paragraphs:
    """Finds the paragraphs that name one of `terms`.

    A term counts where words begin and end, whatever its case and the white space within it.
    """

    def __init__(self, terms):
        re = load("re")
        self._breaks = re.compile(_BREAK)
        self._anchors = sorted({form for term in terms for form in _anchor(term)})
        forms = sorted({_expression(term) for term in terms}, key=len, reverse=True)
        self._named = re.compile("|".join(forms), re.IGNORECASE)

    def hits(self, name, data):
        """A Hit for each paragraph of one text, in order; offsets are bytes, its text is the paragraph's."""
        hit, line, counted = part("hit").Hit, 1, 0
        for start, end in self._spans(data):
            text = str(data[start:end], "utf-8", "replace")
            if self._named.search(text) is not None:
                line += scan.newlines(data, counted, start)
                counted = start
                yield hit(name, line, start, end, text)

    def _spans(self, data):
        """The paragraphs that hold an anchor, each once, in order."""
        done = 0
        for low, block in scan.line_blocks(data):
            found = set()
            lowered = block.lower()
            for anchor in self._anchors:
                if scan.has(lowered, anchor):
                    found.update(self._around(data, low, lowered, anchor))
            for start, end in sorted(found):
                if end > done:
                    yield max(start, done), end
                    done = end

    def _around(self, data, low, lowered, anchor):
        at = lowered.find(anchor)
        while at >= 0:
            start, end = self._bounds(data, low + at, low + at + len(anchor))
            yield start, end
            at = lowered.find(anchor, max(end - low, at + len(anchor)))

    def _bounds(self, data, first, last):
        """Where the paragraph that holds these bytes begins and ends."""
        return _start(data, first), self._end(data, last)

    def _end(self, data, last):
        for width in _WIDTHS:
            after = bytes(data[last : last + width])
            match = self._breaks.search(after)
            if match is not None:
                return last + match.start()
        end = last + len(after)
        if end == len(data):
            return end
        cut = after.rfind(b"\n")
        return last + cut if cut >= 0 else _boundary(data, end)


def _start(data, first):
    """The start of the line after the last blank one; of a long paragraph, of a line some way before."""
    for width in _WIDTHS:
        low = max(first - width, 0)
        before = bytes(data[low:first])
        line = before.rfind(b"\n")
        while line >= 0:
            above = before.rfind(b"\n", 0, line)
            if above >= 0 and not before[above:line].strip():
                return low + line + 1
            if above < 0:
                break
            line = above
        if low == 0:
            return 0
    return low + line + 1 if line >= 0 else _boundary(data, low)


def _boundary(data, end):
    """The nearest start of a UTF-8 sequence at or before `end`."""
    low = max(end - 4, 0)
    while end > low and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _anchor(term):
    """The longest word of a term, as bytes, in the ways in which its letters may be written; ASCII is small in all."""
    word = max(term.split(), key=len)
    forms = {word, word.lower(), word.upper(), word.title(), word.casefold()}
    return {form.encode("utf-8", "replace").lower() for form in forms}


def _expression(term):
    """A term where words begin and end; scripts that do not part words have no such places."""
    re = load("re")
    middle = r"\s+".join(re.escape(word) for word in term.split())
    spaced = re.compile(rf"[^\W{_UNSPACED}]")
    before = rf"(?<![^\W{_UNSPACED}])" if spaced.match(term[0]) else ""
    after = rf"(?![^\W{_UNSPACED}])" if spaced.match(term[-1]) else ""
    return f"{before}{middle}{after}"
