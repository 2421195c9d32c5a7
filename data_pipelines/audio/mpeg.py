"""The frames of an MP3 file (ISO/IEC 11172-3, 13818-3): how many there are, and how many its header promises."""

import dataclasses
import mmap
from pathlib import Path

# Bitrates in kbit/s by (version 1?, layer), for the index 1 to 14.
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a frame.

    Attributes:
      kind: Version, layer and sample rate, which all frames of a file share.
      length: Bytes of the frame, 0 for the free format.
      information: Position within the frame of a Xing or Info tag.
    """

    kind: tuple[int, int, int]
    length: int
    information: int


@dataclasses.dataclass(frozen=True)
class Frames:
    """The frames of a file.

    Attributes:
      count: Number of whole frames of audio.
      promised: Number that the Xing, Info or VBRI tag states; None without one.
    """

    count: int
    promised: int | None


def frame_header(data: bytes) -> Header | None:
    """The header that four bytes form, None if they form none."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer, bitrate, rate = (data[1] >> 3) & 3, 4 - ((data[1] >> 1) & 3), data[2] >> 4, (data[2] >> 2) & 3
    if version == 1 or layer == 4 or bitrate == 15 or rate == 3:
        return None
    first, mono = version == 3, data[3] >> 6 == 3
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    hertz = _RATES[version][rate]
    length, padding = 0, (data[2] >> 1) & 1
    if bitrate:
        bits = _BITRATES[first, layer][bitrate - 1] * 1000 * samples // 8 // hertz
        length = (bits // 4 + padding) * 4 if layer == 1 else bits + padding
    information = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    return Header((version, layer, hertz), length, information)


def id3_length(head: bytes) -> int:
    """The length in bytes of the ID3v2 tag that `head` (10 bytes or more) begins with, 0 if it begins with none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    length = 0
    for byte in head[6:10]:
        length = length << 7 | byte & 0x7F
    return 10 + length + (10 if head[5] & 0x10 else 0)


def begins_with_frame(path: Path) -> bool:
    """Whether a file begins with an MP3 frame that another one follows, behind tags and zeros."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _next(data, position := _start(data), None, position + 1) is not None


def frames(path: Path) -> Frames | None:
    """Count the frames of a file; None for the free format, whose frames state no length.

    Raises:
      ValueError: if bytes between frames are no frame, or the last frame is incomplete.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = _start(data)
        header = frame_header(data[position : position + 4])
        if header is None:
            raise ValueError(f"{path}: is no MP3: it holds no frame; is it damaged or misnamed?")
        if not header.length:
            return None
        kind = header.kind
        promised = _promised(data[position : position + header.length], header)
        count = 0 if promised is None else -1  # the frame of the tag holds no audio
        while header is not None and header.length and header.kind == kind:
            if position + header.length > len(data):
                raise ValueError(f"{path}: is truncated: its last frame is incomplete")
            count, position = count + 1, position + header.length
            header = frame_header(data[position : position + 4])
        following = _next(data, position, kind)
        if following is not None:
            raise ValueError(f"{path}: is damaged: bytes {position} to {following} are no MP3 frames")
    return Frames(count, promised)


def _start(data: mmap.mmap) -> int:
    """The position behind the ID3v2 tags and zeros at the beginning."""
    position = 0
    while length := id3_length(data[position : position + 10]):
        position += length
    while position < len(data) and data[position] == 0:
        position += 1
    return position


def _next(data: mmap.mmap, position: int, kind: tuple[int, int, int] | None, end: int | None = None) -> int | None:
    """The position of the next frame of a kind from `position` and before `end` that another frame follows."""
    while 0 <= (position := data.find(b"\xff", position)) < (len(data) if end is None else end):
        header = frame_header(data[position : position + 4])
        if header is not None and header.length and kind in (None, header.kind):
            following = frame_header(data[position + header.length : position + header.length + 4])
            if following is not None and following.kind == header.kind:
                return position
        position += 1
    return None


def _promised(frame: bytes, header: Header) -> int | None:
    """The number of frames that the tag in the first frame states; None if there is no tag that states one."""
    for start, names in ((header.information, (b"Xing", b"Info")), (36, (b"VBRI",))):
        if frame[start : start + 4] in names:
            field = start + (14 if names == (b"VBRI",) else 8)
            if names == (b"VBRI",) or frame[start + 7] & 1:
                return int.from_bytes(frame[field : field + 4], "big")
    return None
