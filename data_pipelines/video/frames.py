"""Video frames as JPEGs: packing into one field of a record, lookup by time, decoding and resizing.

Frame `i` of a track belongs to the time i / rate from the start of the track.
"""

import io
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

QUALITY = 90
# Pixels of a frame; 8k video has 33 million.
MOST_PIXELS = 2**26
# Bytes of the length that precedes each packed frame.
_PREFIX = 4


def pack(frames: Sequence[bytes]) -> np.ndarray:
    """Concatenate frames, each preceded by its length in four bytes (little-endian), to uint8 `[bytes]`."""
    parts = [part for frame in frames for part in (len(frame).to_bytes(_PREFIX, "little"), frame)]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack(packed: bytes) -> list[bytes]:
    """The frames that `pack` has concatenated.

    Raises:
      ValueError: if a frame is incomplete.
    """
    frames, position = [], 0
    while position < len(packed):
        begin = position + _PREFIX
        position = begin + int.from_bytes(packed[position:begin], "little")
        if begin > len(packed) or position > len(packed):
            raise ValueError("its frames are cut short")
        frames.append(packed[begin:position])
    return frames


def first_frame_at(seconds: float, rate: float) -> int:
    """The number of the first frame at or after a time, with a tolerance of a thousandth of the frame interval."""
    return math.ceil(seconds * rate - 1e-3)


def nearest(
    read: Callable[[int], tuple[list[bytes], float]], segments: int, seconds: float, times: Sequence[float]
) -> list[bytes]:
    """The frames of a track nearest to `times` (s); beyond the end, the last frame. Empty if the track has no frames.

    Args:
      read: a function that returns the frames of a segment of the track, and their rate, which is 0 if the track has no
        frames.
      segments: number of segments.
      seconds: duration of a segment.
    """
    nearest_frames = []
    for time in times:
        segment = min(max(int(time // seconds), 0), segments - 1)
        frames, rate = read(segment)
        if not rate:
            return []
        number, segment_read = max(round(time * rate), 0), segment
        while segment and first_frame_at(segment * seconds, rate) > number:
            segment -= 1
        while segment + 1 < segments and first_frame_at((segment + 1) * seconds, rate) <= number:
            segment += 1
        frames = frames if segment == segment_read else read(segment)[0]
        while not frames and segment:
            segment -= 1
            frames = read(segment)[0]
        if not frames:
            return []
        nearest_frames.append(frames[min(number - first_frame_at(segment * seconds, rate), len(frames) - 1)])
    return nearest_frames


def decode(frame: bytes, size: int, where: str) -> np.ndarray:
    """Decode a JPEG and resize it to uint8 `[size, size, 3]`.

    Args:
      where: name of the JPEG, for the error message.

    Raises:
      ValueError: if it is not a JPEG or is damaged.
    """
    try:
        with _open(frame) as image:
            image.draft("RGB", (size, size))  # decodes large pictures at a half, a quarter or an eighth of their size
            return resize(np.asarray(image.convert("RGB")), size)
    except Exception as error:  # Pillow raises exceptions of many types
        raise ValueError(f"{where} cannot be read as a JPEG ({_reason(error)})") from None


def check(frame: bytes, where: str) -> None:
    """Check that a JPEG can be decoded.

    Args:
      where: name of the JPEG, for the error message.

    Raises:
      ValueError: if it is not a JPEG or is damaged.
    """
    try:
        with _open(frame) as image:
            image.draft("L", (1, 1))  # decodes at an eighth of the size, which is faster
            image.load()
    except Exception as error:  # Pillow raises exceptions of many types
        raise ValueError(f"{where} cannot be read as a JPEG ({_reason(error)})") from None


def _open(frame: bytes) -> Image.Image:
    """Open a JPEG without decoding it.

    Raises:
      ValueError: if it claims so many pixels that decoding would take too much memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
        image = Image.open(io.BytesIO(frame), formats=["JPEG"])
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {image.width} × {image.height} pixels, more than a video frame")
    return image


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 `[H, W, 3]` to `[size, size, 3]`, bilinearly and with antialiasing."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def encode(image: np.ndarray) -> bytes:
    """Encode uint8 `[H, W, 3]` as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a JPEG"
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
