"""What a search finds."""

from collections import namedtuple

Hit = namedtuple("Hit", "path line start end text")
"""One matching line: its file, its number from 1, its first and last byte + 1, and its text."""
