"""The pages of an Ogg file (RFC 3533): where its links begin, and whether all pages are there."""

import dataclasses
import mmap
import struct
import zlib
from pathlib import Path

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True)
class Link:
    """A part of an Ogg file that is a whole Ogg file itself; chained files have several.

    Attributes:
      start, end: Range of its bytes in the file.
      streams: Number of streams that are interleaved in it; audio files have one.
    """

    start: int
    end: int
    streams: int


def links(path: Path) -> list[Link]:
    """The links of a file in their order.

    Raises:
      ValueError: if a page is damaged or missing, or the last page of a stream is missing.
    """
    position = 0
    result: list[Link] = []
    open_streams: dict[int, int] = {}  # number of the next page, by serial number
    start, streams = 0, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while position < len(data):
            page = _page(data, position, path)
            flags, serial, number = page[5], *struct.unpack_from("<II", page, 14)
            if flags & _BEGINS:
                open_streams[serial], streams = number, streams + 1
            if open_streams.get(serial) != number:
                raise ValueError(f"{path}: lacks a page of audio before byte {position}: it is damaged or truncated")
            open_streams[serial] = number + 1
            position += len(page)
            if flags & _ENDS:
                del open_streams[serial]
                if not open_streams:
                    result.append(Link(start, position, streams))
                    start, streams = position, 0
    if open_streams:
        raise ValueError(f"{path}: is truncated: it has no last page")
    return result


def _page(data: mmap.mmap, position: int, path: Path) -> bytes:
    """The page at a position, with its checksum verified."""
    if len(data) < position + _HEADER.size or data[position : position + 4] != b"OggS":
        raise ValueError(f"{path}: is damaged or truncated: byte {position} begins no page of audio")
    *_, checksum, segments = _HEADER.unpack_from(data, position)
    body = position + _HEADER.size + segments
    end = body + sum(data[body - segments : body])
    if len(data) < end:
        raise ValueError(f"{path}: is truncated: its last page is incomplete")
    page = data[position:end]
    if _checksum(page[:22] + bytes(4) + page[26:]) != checksum:
        raise ValueError(f"{path}: is damaged: the page at byte {position} has a wrong checksum")
    return page


def _checksum(page: bytes) -> int:
    """CRC-32 of Ogg: zlib's polynomial with the bits of each byte in reverse, and without its inversions."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
