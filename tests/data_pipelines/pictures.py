"""Pictures and videos in which the number of each frame can be read."""

from pathlib import Path

import numpy as np

from data_pipelines.video import frames

# The number is encoded in this many black or white bands, which JPEG and H.264 preserve.
BITS = 8


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture whose bands encode a number, uint8 `[H, W, 3]`."""
    bands = np.array([number >> bit & 1 for bit in range(BITS)]) * 255
    return np.broadcast_to(np.repeat(bands, width // BITS)[None, :, None], (height, width, 3)).astype(np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number that the bands of a picture encode; the picture may have any size."""
    bands = image.mean(axis=(0, 2)).reshape(BITS, -1).mean(axis=1)
    return int((bands > 127) @ (1 << np.arange(BITS)))


def jpeg(number: int) -> bytes:
    """A JPEG whose bands encode a number."""
    return frames.encode(numbered(number))


def write_video(path: Path, count: int, rate: int = 10, height: int = 48, width: int = 64) -> Path:
    """Write an mp4 of numbered pictures, `rate` per second; requires PyAV."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = height, width, "yuv420p", 4_000_000
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number, height, width), format="rgb24")))
        container.mux(stream.encode())
    return path
