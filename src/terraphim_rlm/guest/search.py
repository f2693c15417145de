"""Looking into big inputs at C speed: grep, lines, chunks, slice, tokens.

They work on `context` by default, or on any text given. Hits carry byte offsets, ready for `cite`.
"""

from .library import load, part


def bind(cell):
    """The search helpers of one cell."""

    def source(text):
        return cell.namespace.get("context") if text is None else text

    def grep(pattern, text=None, *, limit=100, ignore_case=False, path=None):
        """Lines that match a regular expression, as a list of Hit; the first `limit` of them."""
        re = load("re")
        expression = re.compile(
            pattern.encode("utf-8", "surrogateescape"), re.IGNORECASE if ignore_case else 0
        )
        hits = []
        for name, data in parts(source(text), path):
            _grep_one(expression, name, data, hits, limit)
            if len(hits) >= limit:
                break
        return hits

    def lines(start=1, end=None, text=None, *, path=None):
        """Lines `start` to `end` (both counted from 1, both included) as one text."""
        data = span_of(source(text), path)[0]
        position = 0
        for number, match in enumerate(load("re").finditer(rb"[^\n]*\n?", data), 1):
            if number == start:
                position = match.start()
            if number == (start if end is None else end) or match.end() == len(data):
                return str(data[position : match.end()], "utf-8", "replace")
        return ""

    def chunks(text=None, size=20_000, overlap=0):
        """Pieces of at most `size` characters, cut at line ends where possible."""
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
    if hasattr(source, "spans"):
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
    re = load("re")
    wanted = re.compile(re.escape(text.encode("utf-8", "surrogateescape")))
    for name, data in parts(source, path):
        match = wanted.search(data)
        if match:
            return name, match.start(), match.end()
    return None


def _grep_one(expression, name, data, hits, limit):
    hit, newline = part("hit").Hit, load("re").compile(rb"\n")
    line, counted = 1, 0
    done = -1
    for match in expression.finditer(data):
        if match.start() < done:
            continue
        start = _before(data, match.start())
        end = _after(newline, data, match.end())
        line += _newlines(data, counted, start)
        counted = start
        hits.append(hit(name, line, start, end, str(data[start:end], "utf-8", "replace")))
        done = end
        if len(hits) >= limit:
            return


def _newlines(data, start, end):
    """Newlines in a span, counted in pieces so that memory stays flat."""
    return sum(bytes(data[i : min(i + (1 << 20), end)]).count(b"\n") for i in range(start, end, 1 << 20))


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


def _after(newline, data, position):
    """End of the line that holds `position`, without its newline."""
    found = newline.search(data, position) if position else newline.search(data)
    return found.start() if found else len(data)


def _chunks(source, size, overlap):
    if size <= overlap or overlap < 0:
        raise ValueError("chunks: size must be larger than overlap")
    if hasattr(source, "spans"):
        for name in source:
            yield from _chunks(source[name], size, overlap)
        return
    position, length = 0, len(source)
    while position < length:
        end = min(position + size, length)
        piece = source[position:end]
        if end < length:
            cut = piece.rfind("\n") + 1
            if cut > size // 2:
                piece, end = piece[:cut], position + cut
        yield piece
        position = end if end >= length else max(end - overlap, position + 1)
