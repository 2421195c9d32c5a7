"""Random damage of files: of their bytes, and of the numbers and strings of texts."""

import random
import re

# Numbers and strings that readers stumble over.
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "1e308",
    "-1e-308",
    "1e999",
    "NaN",
    "-Infinity",
    "4294967296",
    f"1{'0' * 30}",
    "0.5",
    "null",
)
STRINGS = (
    '""',
    '"../../x"',
    '"a/b"',
    '"\\u0000"',
    '"\\ud800"',
    '"@"',
    '"\\u202e"',
    "[]",
    "{}",
    "true",
    '"' + "a" * 999 + '"',
)
_NUMBER, _STRING = re.compile(rb"-?\d+(\.\d+)?"), re.compile(rb'"[^"\n]{0,99}"')
MOST_CHANGES = 6
# Lengths and counts at the edges of their types.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to a few random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, MOST_CHANGES))):
        content = rng.choice((_flip, _flip, _cut, _remove, _repeat, _insert, _edge, _number, _string))(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    """Return a random position; often near the beginning or the end, where headers are."""
    size = len(content)
    near = min(size, 200)
    return rng.choice((rng.randrange(size + 1), rng.randrange(near + 1), size - rng.randrange(near + 1)))


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = min(_place(content, rng), max(len(content) - 1, 0))
    return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _remove(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice((1, 4, 8, 100)) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    place, length = _place(content, rng), rng.choice((1, 8, 100))
    return content[:place] + content[place : place + length] * rng.choice((2, 3, 50)) + content[place + length :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    inserted = rng.choice((rng.randbytes(rng.choice((1, 4, 30))), b"[" * 3_000, b"\0" * 1000))
    return content[:place] + inserted + content[place:]


def _edge(content: bytes, rng: random.Random) -> bytes:
    place, width = _place(content, rng), rng.choice((1, 2, 4, 8))
    number = rng.choice(_EDGES) & (256**width - 1)
    return content[:place] + number.to_bytes(width, rng.choice(("little", "big"))) + content[place + width :]


def _number(content: bytes, rng: random.Random) -> bytes:
    return _replaced(content, _NUMBER, rng.choice(NUMBERS), rng)


def _string(content: bytes, rng: random.Random) -> bytes:
    return _replaced(content, _STRING, rng.choice(STRINGS), rng)


def _replaced(content: bytes, pattern: re.Pattern[bytes], text: str, rng: random.Random) -> bytes:
    matches = list(pattern.finditer(content[:100_000]))
    if not matches:
        return _flip(content, rng)
    match = rng.choice(matches)
    return content[: match.start()] + text.encode() + content[match.end() :]
