"""How much audio the header of a container promises, compared with what the file holds.

Decoders reduce the length of a truncated file, and take the length that a streaming writer left behind literally; both
lose audio without an error. Each function here reads the structure of one container and returns its `Length`.
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# A file with more chunks than this is damaged or hostile.
_MOST_CHUNKS = 100_000
# A position behind the end of every audio file; file systems refuse to seek much farther.
_FARTHEST = 2**40
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_MATROSKA_SEGMENT = bytes.fromhex("18538067")


@dataclasses.dataclass(frozen=True)
class Length:
    """What a container says about the length of its audio.

    Attributes:
      missing: Bytes that the header promises beyond the end of the file; above 0 if the file is truncated.
      patches: Corrections `(position, bytes)` of length fields that a writer could not fill in, because it wrote to a
        pipe: with them the header states the bytes that the file holds.
    """

    missing: int = 0
    patches: tuple[tuple[int, bytes], ...] = ()


def truncated(path: Path) -> ValueError:
    """The error for a file that holds less audio than its header promises."""
    return ValueError(f"{path}: is truncated: its header promises more audio than the file holds")


def riff(file: BinaryIO, size: int) -> Length:
    """WAV, RF64 and BW64 (EBU Tech 3306), RIFX: the data chunk, whatever chunks are in front of it."""
    magic = _read(file, 0, 4)
    order, wide = ">" if magic == b"RIFX" else "<", (0, 0)
    for name, start, length in _chunks(file, size, 12, order):
        if name == b"ds64" and length >= 16:
            wide = (start + 8, struct.unpack("<Q", _read(file, start + 8, 8))[0])
        elif name == b"data" and magic in (b"RF64", b"BW64") and length == 0xFFFFFFFF and wide[0]:
            return _audio(file, size, start, wide[1], wide[0], "<Q")
        elif name == b"data":
            return _audio(file, size, start, length, start - 4, f"{order}I")
    return Length()


def channel_mask_position(file: BinaryIO, size: int) -> int:
    """The position of the speakers of the channels (`dwChannelMask`, four bytes) in a WAV or RF64 file; 0 if none."""
    for name, start, length in _chunks(file, size, 12, "<"):
        if name == b"fmt " and length >= 24 and _read(file, start, 2) == b"\xfe\xff":
            return start + 20
        if name in (b"fmt ", b"data"):
            break
    return 0


def channel_mask(path: Path) -> int:
    """The speakers of the channels of a WAV or RF64 file, 0 if its header names none."""
    with path.open("rb") as file:
        position = channel_mask_position(file, path.stat().st_size)
        return int.from_bytes(_read(file, position, 4), "little") if position else 0


def aiff(file: BinaryIO, size: int) -> Length:
    """AIFF and AIFF-C: the chunk of sound data."""
    for name, start, length in _chunks(file, size, 12, ">"):
        if name == b"SSND":
            return _audio(file, size, start, length, start - 4, ">I")
    return Length()


def caf(file: BinaryIO, size: int) -> Length:
    """Apple Core Audio Format: the data chunk, whose length is −1 if it goes to the end of the file."""
    for name, start, length in _chunks(file, size, 8, ">", "Q", 1):
        if name == b"data":
            return _audio(file, size, start, length, start - 8, ">Q")
    return Length()


def au(file: BinaryIO, size: int) -> Length:
    """Sun and NeXT: the data after the header."""
    order = "<" if _read(file, 0, 4) == b"dns." else ">"
    start, length = struct.unpack(f"{order}II", _read(file, 4, 8).ljust(8, b"\0"))
    return _audio(file, size, start, length, 8, f"{order}I")


def w64(file: BinaryIO, size: int) -> Length:
    """Sony Wave64: the data chunk; its length counts its own header of 24 bytes."""
    position = 40
    for _ in range(_MOST_CHUNKS):
        header = _read(file, position, 24)
        if len(header) < 24:
            break
        length = struct.unpack("<Q", header[16:])[0]
        if header[:16] == _W64_DATA:
            start = position + 24
            if length <= 24 or length > 2**62:
                return Length(0, ((position + 16, struct.pack("<Q", size - position)),) if size > start else ())
            return Length(max(0, position + length - size))
        position += max(24, -(-length // 8) * 8)
    return Length()


def mp4(file: BinaryIO, size: int) -> Length:
    """MP4 and QuickTime: every box of the file."""
    position = 0
    for _ in range(_MOST_CHUNKS):
        header = _read(file, position, 16)
        if len(header) < 8:
            return Length(0 if not header else 8 - len(header))
        length = struct.unpack(">I", header[:4])[0]
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        if length == 0:  # to the end of the file
            return Length()
        if length < 8 or position + length > size:
            return Length(max(0, position + length - size))
        position += length
    return Length()


def matroska(file: BinaryIO, size: int) -> Length:
    """Matroska and WebM: the segment, unless its length is unknown."""
    position, head = 4, _read(file, 0, 4096)
    length, width = _vint(head, position)
    position += width + (length or 0)
    if head[position : position + 4] != _MATROSKA_SEGMENT:
        return Length()
    length, width = _vint(head, position + 4)
    return Length() if length is None else Length(max(0, position + 4 + width + length - size))


def asf(file: BinaryIO, size: int) -> Length:
    """WMA: the size of the file in its properties, unless the file is a broadcast."""
    head = _read(file, 0, 2**16)
    position = head.find(_ASF_FILE_PROPERTIES)
    if position < 0 or len(head) < position + 92:
        return Length()
    stated, flags = struct.unpack_from("<Q", head, position + 40)[0], struct.unpack_from("<I", head, position + 88)[0]
    return Length() if flags & 1 else Length(max(0, stated - size))


def avi(file: BinaryIO, size: int) -> Length:
    """AVI: the first list of the file."""
    length = struct.unpack("<I", _read(file, 4, 4).ljust(4, b"\0"))[0]
    return Length() if _is_placeholder(length) else Length(max(0, 8 + length - size))


def _audio(file: BinaryIO, size: int, start: int, length: int, field: int, form: str) -> Length:
    """The length of a chunk of audio.

    Args:
      start: position of the audio.
      length: its length in bytes according to the header.
      field: position of the length.
      form: format of the length for `struct`.
    """
    held = max(0, size - start)
    end = start + length + length % 2
    if end <= size:  # a chunk of no bytes, or one of 2 GiB, may be what it says, or not
        stated = end == size or length == held or _is_chunk(file, end, size, form[0])
    else:
        stated = not _is_placeholder(length)
    if stated or not (length == 0 or _is_placeholder(length)):
        return Length(max(0, start + length - size))
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    return Length(0, ((field, struct.pack(form, min(held, largest))),))


def _is_placeholder(length: int) -> bool:
    """Whether a length is one that writers put there before they know it: zero, the largest ones, those of sox."""
    return (
        length == 0
        or 0x7EFFFF00 <= length <= 0x7F000100
        or 0x7FFF0000 <= length <= 0x80010000
        or 0xFFFF0000 <= length <= 0xFFFFFFFF
        or length >= 2**62
    )


def _is_chunk(file: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether a chunk begins at a position and lies within the file: then an empty chunk in front of it is empty."""
    header = _read(file, position, 8)
    if len(header) < 8 or not all(32 <= byte < 127 for byte in header[:4]):
        return False
    return position + 8 + struct.unpack(f"{order}I", header[4:])[0] <= size


def _chunks(
    file: BinaryIO, size: int, position: int, order: str, width: str = "I", alignment: int = 2
) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the position of the content and the length of each chunk from `position`."""
    form = f"{order}4s{width}"
    header_size = struct.calcsize(form)
    for _ in range(_MOST_CHUNKS):
        header = _read(file, position, header_size)
        if len(header) < header_size:
            return
        name, length = struct.unpack(form, header)
        yield name, position + header_size, length
        position += header_size + -(-length // alignment) * alignment
        if position >= size:
            return


def _vint(head: bytes, position: int) -> tuple[int | None, int]:
    """A number of variable width (EBML), None if it is unknown, and its width in bytes."""
    if position >= len(head) or not head[position]:
        return None, 1
    width = 9 - head[position].bit_length()
    number = int.from_bytes(head[position : position + width], "big") & (2 ** (7 * width) - 1)
    return (None if number == 2 ** (7 * width) - 1 else number), width


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    """The bytes at a position that a file names; fewer, or none, behind its end."""
    file.seek(min(position, _FARTHEST))
    return file.read(count)
