"""Frames as JPEGs: packing, lookup by time, decoding, and errors of other data."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from data_pipelines.video import frames


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    """A picture whose red increases to the right and green to the bottom, uint8 `[H, W, 3]`."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.uint8(np.rint(np.stack([red, green, np.full_like(red, 90)], axis=2)))


@pytest.mark.parametrize("parts", [[], [b"a"], [b"", b"abc", b"\xff" * 70_000], [b"x"] * 5])
def test_packed_frames_are_unpacked(parts):
    packed = frames.pack(parts)
    assert (packed.dtype, packed.ndim) == (np.uint8, 1)
    assert frames.unpack(packed.tobytes()) == parts


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_incomplete_frames_are_refused(cut):
    packed = frames.pack([b"abc", b"defgh"]).tobytes()
    with pytest.raises(ValueError, match="its frames are cut short"):
        frames.unpack(packed[:-cut])


@pytest.mark.parametrize("rate", [0.4, 1.0, 5.0, 12.2, 25.0, 29.97])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_the_frame_nearest_to_each_time(rate, count):
    """The frames are divided into segments as `store` does; a segment is not a multiple of the frame interval."""
    segments, seconds = 9, 1.5
    numbers = [number.to_bytes(2, "little") for number in range(count)]
    limits = [frames.first_frame_at(segment * seconds, rate) for segment in range(segments + 1)]
    parts = [numbers[first:last] for first, last in itertools.pairwise(limits)]
    stored = sum(len(part) for part in parts)
    assert stored == min(count, limits[-1])
    times = [*np.random.default_rng(0).uniform(0, 20, 200).tolist(), 0.0, 1.5, 3.0, -1.0]
    nearest = frames.nearest(lambda segment: (parts[segment], rate), segments, seconds, times)
    expected = [min(max(round(time * rate), 0), stored - 1) for time in times]
    assert [int.from_bytes(frame, "little") for frame in nearest] == expected


def test_a_track_without_frames():
    assert frames.nearest(lambda _: ([], 0.0), 3, 1.5, [0.0, 1.0]) == []
    assert frames.nearest(lambda _: ([], 5.0), 3, 1.5, [0.0, 4.0]) == []


@pytest.mark.parametrize("size", [16, 64, 100])
def test_decoding_at_any_size(size):
    decoded = frames.decode(frames.encode(picture()), size, "it")
    assert (decoded.shape, decoded.dtype) == ((size, size, 3), np.uint8)
    middle = (np.arange(size) + 0.5) / size * 255
    np.testing.assert_allclose(decoded[size // 2, :, 0], middle, atol=10)
    np.testing.assert_allclose(decoded[:, size // 2, 1], middle, atol=10)


def test_pictures_of_the_right_size_are_not_changed():
    square = picture(64, 64)
    assert frames.resize(square, 64) is square


def test_grey_pictures_have_three_channels():
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 20), 130, np.uint8)).save(buffer, "JPEG")
    np.testing.assert_allclose(frames.decode(buffer.getvalue(), 20, "it"), np.full((20, 20, 3), 130), atol=2)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damaged", [b"", b"not a picture", frames.encode(picture())[:-200], png()], ids=["empty", "text", "cut", "png"]
)
def test_other_data_than_jpegs_are_refused(damaged):
    with pytest.raises(ValueError, match=r"^a/0001.jpg cannot be read as a JPEG \("):
        frames.check(damaged, "a/0001.jpg")
    with pytest.raises(ValueError, match=r"^a/0001.jpg cannot be read as a JPEG \("):
        frames.decode(damaged, 16, "a/0001.jpg")


def test_complete_jpegs_pass():
    frames.check(frames.encode(picture()), "it")
