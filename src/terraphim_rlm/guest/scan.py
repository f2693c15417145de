"""Scans of large bytes at the speed of the C library: blocks are copied out of the map, then searched as `bytes`.

A memoryview cannot be searched, and `re` and `mmap.find` look at one byte after another. Copying a block and searching
the copy costs a tenth of that, and memory stays flat.
"""

from .library import load

BLOCK = 1 << 18
"""Bytes copied at once; a block that fits the processor's cache is searched while it is there."""


def _no_library(block, needle):
    """Where the C library has no memmem."""
    return needle in block


_chosen = [None]


def has(block, needle):
    """Whether a block holds `needle`: by memmem, which reads five times as fast as `bytes.find` where it finds nothing."""
    if _chosen[0] is None:
        _chosen[0] = _by_memmem()
    return _chosen[0](block, needle)


def _by_memmem():
    try:
        ctypes = load("ctypes")
        memmem = ctypes.CDLL(None).memmem
    except (ImportError, OSError, AttributeError):
        return _no_library
    memmem.restype, sizes = ctypes.c_void_p, ctypes.c_size_t
    memmem.argtypes = (ctypes.c_char_p, sizes, ctypes.c_char_p, sizes)
    return lambda block, needle: memmem(block, len(block), needle, len(needle)) is not None


def find(data, needle, start=0):
    """The first place of `needle` at or after `start`, or -1."""
    keep = len(needle) - 1
    for low in range(start, len(data), BLOCK):
        block = bytes(data[low : low + BLOCK + keep])
        if has(block, needle):
            return low + block.find(needle)
    return -1 if needle or start > len(data) else start


def count(data, needle):
    """How often `needle` is in `data`, without overlaps."""
    if len(needle) < 2:
        return newlines(data, 0, len(data), needle) if needle else len(data) + 1
    found, done, keep = 0, 0, len(needle) - 1
    for low in range(0, len(data), BLOCK):
        block = bytes(data[low : low + BLOCK + keep])
        if not has(block, needle):
            continue
        at = block.find(needle, max(done - low, 0))
        while at >= 0:
            found, done = found + 1, low + at + len(needle)
            at = block.find(needle, at + len(needle))
    return found


def newlines(data, start, end, what=b"\n"):
    """How many newlines are in a span."""
    return sum(bytes(data[i : min(i + BLOCK, end)]).count(what) for i in range(start, end, BLOCK))


def line_blocks(data):
    """(first byte, block) one after another; each block but the last ends with a newline, however long its last line."""
    low, size = 0, len(data)
    while low < size:
        width = BLOCK
        block = bytes(data[low : low + width])
        while low + len(block) < size and (cut := block.rfind(b"\n") + 1) == 0:
            width *= 4
            block = bytes(data[low : low + width])
        if low + len(block) < size:
            block = block[:cut]
        yield low, block
        low += len(block)


_FEW = 500
"""Hits in a block up to which each is looked at by itself; more are counted line by line."""


class Lines:
    """The lines of a text that match a regular expression, as grep has them: a match never spans two lines.

    An expression that no line can match without holding a fixed text (`error \\d+`, `one|two`) is looked for by that
    text; others run over each block at the speed of `re`.
    """

    def __init__(self, pattern, ignore_case):
        re = load("re")
        flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
        self.expression = re.compile(pattern, flags)
        self._folded = bool(self.expression.flags & re.IGNORECASE)
        self.across, needles, self._exact = _needed(pattern, flags)
        self._needles = list(dict.fromkeys(needle.lower() if self._folded else needle for needle in needles))
        self._to_line_end = {needle: re.compile(re.escape(needle) + rb"[^\n]*()") for needle in self._needles}

    def spans(self, block):
        """(start, end) of each matching line of a block, without its newline."""
        if not self._needles:
            return self._by_expression(block)
        searched, needles = self._there(block)
        if len(needles) == 1:
            return self._by_needle(block, searched, needles[0])
        return self._by_needles(block, searched, needles)

    def _there(self, block):
        """The block as it is searched, and the needles that it holds."""
        searched = block.lower() if self._folded else block
        return searched, [needle for needle in self._needles if has(searched, needle)]

    def count(self, block):
        """How many lines of a block match."""
        if not self._needles:
            return sum(1 for _ in self._by_expression(block))
        searched, needles = self._there(block)
        if not needles:
            return 0
        if self._exact and len(needles) == 1:  # one loop in C, over the lines from the needle to their ends
            return len(self._to_line_end[needles[0]].findall(searched))
        if sum(map(searched.count, needles)) < _FEW:
            return sum(1 for _ in self.spans(block))
        search = self.expression.search
        found = [
            line
            for line in searched.split(b"\n")
            if needles[0] in line or (len(needles) > 1 and any(needle in line for needle in needles))
        ]
        return len(found) if self._exact else sum(1 for line in found if search(line))

    def _by_needle(self, block, searched, needle):
        exact, search, find, size = self._exact, self.expression.search, searched.find, len(block)
        at = find(needle)
        while at >= 0:
            start = searched.rfind(b"\n", 0, at) + 1
            end = find(b"\n", at)
            end = size if end < 0 else end
            if exact or search(block[start:end]):
                yield start, end
            at = find(needle, end)

    def _by_needles(self, block, searched, needles):
        exact, search = self._exact, self.expression.search
        places = [searched.find(needle) for needle in needles]
        while True:
            at = min([place for place in places if place >= 0], default=-1)
            if at < 0:
                return
            start = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            if exact or search(block[start:end]):
                yield start, end
            places = [
                searched.find(needle, end) if 0 <= place < end else place
                for needle, place in zip(needles, places)
            ]

    def _by_expression(self, block):
        search, position, size = self.expression.search, 0, len(block)
        while position < size:
            match = search(block, position)
            if match is None or match.start() >= size:
                return
            start = block.rfind(b"\n", 0, match.start()) + 1
            end = block.find(b"\n", match.start())
            end = size if end < 0 else end
            if match.end() <= end or search(block[start:end]):
                yield start, end
            position = end + 1


def _needed(pattern, flags):
    """(whether it names a newline, texts of which each matching line holds one, whether holding one is enough)."""
    try:
        parser = load("re")._parser
    except AttributeError:  # before Python 3.11
        parser = load("sre_parse")
    parsed = parser.parse(pattern, flags)
    if _names_newline(parsed):
        return True, [], False
    runs = _alternatives(list(parsed))
    texts = [max(run, key=len, default=b"") for run in runs]
    if not all(len(text) > 1 for text in texts) or len(texts) > 8:
        return False, [], False
    return False, texts, _is_plain(list(parsed))


def _names_newline(parsed):
    text = repr(parsed)
    return "(LITERAL, 10)" in text


def _is_plain(items):
    """Whether it is nothing but fixed texts."""
    kinds = {str(op) for op, _ in items}
    if kinds == {"BRANCH"} and len(items) == 1:
        return all({str(op) for op, _ in branch} == {"LITERAL"} for branch in items[0][1][1])
    return kinds == {"LITERAL"}


def _alternatives(items):
    """For each branch of an expression, the runs of fixed bytes that it cannot do without."""
    if len(items) == 1 and str(items[0][0]) == "BRANCH":
        return [_runs(list(branch)) for branch in items[0][1][1]]
    return [_runs(items)]


def _runs(items):
    """Runs of fixed bytes that lie side by side in every match of a sequence."""
    runs, run = [], b""
    for op, value in items:
        kind = str(op)
        if kind == "LITERAL":
            run += bytes([value])
            continue
        if kind == "AT":  # a place, not a byte
            continue
        runs.append(run)
        run = b""
        if kind == "SUBPATTERN" and not value[1] and not value[2]:
            runs += _runs(list(value[3]))
        elif kind in ("MAX_REPEAT", "MIN_REPEAT") and value[0] > 0:
            runs += _runs(list(value[2]))
    runs.append(run)
    return [run for run in runs if run]
