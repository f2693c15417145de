"""Looking into big inputs at C speed: grep, lines, chunks, slice, tokens.

They work on `context` by default, or on any text given. Hits carry byte offsets, ready for `cite`.
"""

from . import scan
from .library import part


def bind(cell):
    """The search helpers of one cell."""

    def source(text):
        if isinstance(text, (int, float)):
            raise TypeError(f"the text to work on is {text!r}, a number; leave it out to work on `context`")
        return cell.namespace.get("context") if text is None else text

    def grep(pattern, text=None, *, limit=100, ignore_case=False, path=None, count=False):
        """Lines that match a regular expression, as a list of Hit; the first `limit` of them, None = all.

        count: how many lines match, in place of them.
        """
        lines = scan.Lines(pattern.encode("utf-8", "surrogateescape"), ignore_case)
        if count:
            return sum(_count(lines, data) for _, data in parts(source(text), path))
        hits, most = [], float("inf") if limit is None else limit
        for name, data in parts(source(text), path):
            if len(hits) >= most:
                break
            _grep_one(lines, name, data, hits, most)
        return hits

    def lines(start=1, end=None, text=None, *, path=None):
        """Lines `start` to `end` (both counted from 1, both included) as one text."""
        data = span_of(source(text), path)[0]
        first = _line(data, start)
        last = _line(data, (start if end is None else end) + 1)
        return str(data[first:last], "utf-8", "replace")

    def chunks(text=None, size=20_000, overlap=0):
        """Pieces of at most `size` characters, cut at line ends where possible. `chunks(9)` is `chunks(size=9)`."""
        if isinstance(text, int) and not isinstance(text, bool):
            text, size = None, text
        return list(_chunks(source(text), size, overlap))

    def slice_(start, end, text=None, *, path=None):
        """Bytes `start` to `end` of the input, as text."""
        return str(span_of(source(text), path)[0][start:end], "utf-8", "replace")

    def tokens(text=None):
        """About how many tokens a text has: a quarter of its bytes."""
        return sum(len(data) for _, data in parts(source(text), None)) // 4

    return {"grep": grep, "lines": lines, "chunks": chunks, "slice": _Slice(slice_), "tokens": tokens}


class _Slice:
    """Callable as our `slice(start, end)` on the input, and still Python's own where code uses it as that."""

    def __init__(self, function):
        self._function = function
        self.__doc__ = function.__doc__

    def __call__(self, *args, **options):
        if options or (len(args) == 2 and all(isinstance(arg, int) for arg in args)):
            return self._function(*args, **options)
        return slice(*args)


def parts(source, path):
    """(name, bytes) of each text in `source`."""
    kind = type(source)  # a lazy text would be decoded whole to look for what it has not
    if hasattr(kind, "spans"):
        return [
            (name, source.bytes[start:end])
            for name, start, end in source.spans()
            if path is None or name == path
        ]
    if hasattr(source, "bytes"):
        return [(source.path, source.bytes)]
    if isinstance(source, (bytes, bytearray, memoryview)):
        return [("", memoryview(source))]
    text = source if isinstance(source, str) else str(source)
    return [("", memoryview(text.encode("utf-8", "surrogatepass")))]


def span_of(source, path):
    """(bytes, name) of the one text that is meant."""
    found = parts(source, path)
    if path is None and len(found) > 1:
        raise ValueError(f"the input has {len(found)} files; say which: path=..")
    if not found:
        raise ValueError(f"the input has no file {path!r}")
    return found[0][1], found[0][0]


def find_exact(source, text, path):
    """(path, start, end) of the first place that holds `text`, or None."""
    wanted = text.encode("utf-8", "surrogateescape")
    for name, data in parts(source, path):
        at = scan.find(data, wanted)
        if at >= 0:
            return name, at, at + len(wanted)
    return None


def _count(lines, data):
    if lines.across:
        hits = []
        _grep_across(lines.expression, "", data, hits, float("inf"))
        return len(hits)
    return sum(lines.count(block) for _, block in scan.line_blocks(data))


def _grep_one(lines, name, data, hits, most):
    if lines.across:
        _grep_across(lines.expression, name, data, hits, most)
        return
    hit, line, counted = part("hit").Hit, 1, 0
    for low, block in scan.line_blocks(data):
        for start, end in lines.spans(block):
            line += scan.newlines(data, counted, low + start)
            counted = low + start
            hits.append(hit(name, line, low + start, low + end, str(block[start:end], "utf-8", "replace")))
            if len(hits) >= most:
                return


def _grep_across(expression, name, data, hits, most):
    """For expressions that name a newline: the lines from the first to the last that a match touches."""
    hit = part("hit").Hit
    line, counted, done = 1, 0, -1
    for match in expression.finditer(data):
        if match.start() < done:
            continue
        start = _before(data, match.start())
        end = scan.find(data, b"\n", match.end())
        end = len(data) if end < 0 else end
        line += scan.newlines(data, counted, start)
        counted = start
        hits.append(hit(name, line, start, end, str(data[start:end], "utf-8", "replace")))
        done = end
        if len(hits) >= most:
            return


def _line(data, number):
    """Where a line begins, counted from 1; the end of the data when there are not so many."""
    before = number - 1
    for low in range(0, len(data), scan.BLOCK) if before > 0 else ():
        block = bytes(data[low : low + scan.BLOCK])
        there = block.count(b"\n")
        if there < before:
            before -= there
            continue
        at = -1
        for _ in range(before):
            at = block.find(b"\n", at + 1)
        return low + at + 1
    return 0 if number <= 1 else len(data)


def _before(data, position):
    """Start of the line that holds `position`."""
    size = 256
    while True:
        low = max(position - size, 0)
        found = bytes(data[low:position]).rfind(b"\n")
        if found >= 0:
            return low + found + 1
        if low == 0:
            return 0
        size *= 4


def _chunks(source, size, overlap):
    if size <= overlap or overlap < 0:
        raise ValueError(f"chunks: the size must be larger than the overlap, not {size} and {overlap}")
    if hasattr(type(source), "spans"):
        for name in source:
            yield from _chunks(source[name], size, overlap)
        return
    if not hasattr(type(source), "plain") and not isinstance(source, (str, bytes)):
        source = str(source)
    position, length = 0, len(source)
    while position < length:
        end = min(position + size, length)
        piece = source[position:end]
        if end < length and isinstance(piece, (str, bytes)):  # and no list of records
            cut = piece.rfind("\n" if isinstance(piece, str) else b"\n") + 1
            if cut > size // 2:
                piece, end = piece[:cut], position + cut
        yield piece
        position = end if end >= length else max(end - overlap, position + 1)
