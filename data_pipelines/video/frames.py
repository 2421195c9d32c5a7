"""Video frames as JPEG bytes: packed into one field of a record, cut to segments of time, decoded and resized.

Frame `i` of a track stands for the time i / rate, from the start of the track.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

QUALITY = 90
# Bytes of the length in front of each packed frame.
_PREFIX = 4


def pack(frames: Sequence[bytes]) -> np.ndarray:
    """Frames behind one another, uint8 `[bytes]`, each behind its length in four bytes, the lowest first."""
    parts = [part for frame in frames for part in (len(frame).to_bytes(_PREFIX, "little"), frame)]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack(packed: bytes) -> list[bytes]:
    """The frames that `pack` packed.

    Raises:
      ValueError: if a frame is cut short.
    """
    found, position = [], 0
    while position < len(packed):
        begin = position + _PREFIX
        position = begin + int.from_bytes(packed[position:begin], "little")
        if begin > len(packed) or position > len(packed):
            raise ValueError("the frames of a record are cut short: the corpus is damaged, prepare it again")
        found.append(packed[begin:position])
    return found


def first_frame_at(seconds: float, rate: float) -> int:
    """Number of the first frame at or after a time; a frame less than a thousandth of a step before it counts."""
    return math.ceil(seconds * rate - 1e-3)


def nearest(
    read: Callable[[int], tuple[list[bytes], float]], segments: int, seconds: float, times: Sequence[float]
) -> list[bytes]:
    """The frames of a track nearest to `times` (s), beyond its end the last one; none if the track has none.

    Args:
      read: the frames of a segment of the track, and their rate, 0 if there are none in all the track.
      segments: how many there are.
      seconds: of a segment.
    """
    found = []
    for time in times:
        segment = min(max(int(time // seconds), 0), segments - 1)
        frames, rate = read(segment)
        if not rate:
            return []
        number, before = max(round(time * rate), 0), segment
        while segment and first_frame_at(segment * seconds, rate) > number:
            segment -= 1
        while segment + 1 < segments and first_frame_at((segment + 1) * seconds, rate) <= number:
            segment += 1
        frames = frames if segment == before else read(segment)[0]
        while not frames and segment:
            segment -= 1
            frames = read(segment)[0]
        if not frames:
            return []
        found.append(frames[min(number - first_frame_at(segment * seconds, rate), len(frames) - 1)])
    return found


def decode(frame: bytes, size: int, where: str) -> np.ndarray:
    """A JPEG as uint8 `[size, size, 3]`, stretched to that; `where` names it in errors.

    Raises:
      ValueError: if it is no JPEG, or damaged.
    """
    try:
        with Image.open(io.BytesIO(frame), formats=["JPEG"]) as image:
            image.draft("RGB", (size, size))  # large pictures are decoded at a half, a quarter or an eighth
            return resize(np.asarray(image.convert("RGB")), size)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{where} cannot be read as a JPEG ({_reason(error)})") from None


def check(frame: bytes, where: str) -> None:
    """Decode a JPEG to see whether it is whole.

    Raises:
      ValueError: if it is no JPEG, or damaged.
    """
    try:
        with Image.open(io.BytesIO(frame), formats=["JPEG"]) as image:
            image.draft("L", (1, 1))  # at an eighth, which is quicker
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{where} cannot be read as a JPEG ({_reason(error)})") from None


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W, 3]` → `[size, size, 3]`, bilinear; what shrinks is averaged."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def encode(image: np.ndarray) -> bytes:
    """uint8 `[H, W, 3]` as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    return "it is not a JPEG" if isinstance(error, UnidentifiedImageError) else str(error).rstrip(".")
