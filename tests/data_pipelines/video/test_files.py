"""Video files: the frame nearest to a time, boxes of players, and errors of other files."""

import json

import numpy as np
import pytest
from pictures import number_of, numbered, write_video

from data_pipelines.video import files


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of twenty frames, ten per second."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 20)


def test_the_nearest_frame(clip):
    times = [0.0, 0.04, 0.06, 0.06, 0.5, 0.93, 1.2, 1.9, 50.0]
    images = list(files.frames(clip, times))
    assert all((image.shape, image.dtype) == ((48, 64, 3), np.uint8) for image in images)
    assert [number_of(image) for image in images] == [0, 0, 1, 1, 5, 9, 12, 19, 19]
    assert np.abs(images[4].astype(int) - numbered(5)).mean() < 20


def test_the_duration(clip):
    assert files.duration(clip) == pytest.approx(2.0, abs=0.01)


def test_frames_are_decoded_one_at_a_time(clip):
    """The list of times may be infinite."""
    pictures = files.frames(clip, (0.1 * number for number in iter(int, 1)))
    assert [number_of(next(pictures)) for _ in range(3)] == [0, 0, 0]


def test_times_in_another_order_are_refused(clip):
    with pytest.raises(
        ValueError, match=r"the frame of .*clip.mp4 at 0.5 s was requested after that at 1 s: sort the times"
    ):
        list(files.frames(clip, [0.0, 1.0, 0.5]))


@pytest.mark.parametrize("read", [files.duration, lambda path: list(files.frames(path, [0.0]))])
def test_files_without_video(read, clip, tmp_path):
    import av

    with pytest.raises(ValueError, match=r"nowhere.mp4: no such file"):
        read(tmp_path / "nowhere.mp4")
    (tmp_path / "text.mp4").write_text("text" * 100)
    with pytest.raises(ValueError, match=r"text.mp4 cannot be decoded \(.*\); is it damaged"):
        read(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        (sound := av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")).rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound.mp4 holds no video: give a file with a video stream"):
        read(tmp_path / "sound.mp4")


def test_a_video_stream_without_a_frame(clip, tmp_path, monkeypatch):
    import av

    class Empty:
        start_time = None

        def decode(self, _):
            return iter(())

    original_open = av.open

    class WithoutFrames:
        def __init__(self, path, **options):
            self.container = original_open(path, **options)

        def __enter__(self):
            container = self.container.__enter__()
            empty = Empty()
            empty.streams = container.streams
            return empty

        def __exit__(self, *error):
            return self.container.__exit__(*error)

    monkeypatch.setattr(av, "open", WithoutFrames)
    with pytest.raises(ValueError, match=r"clip.mp4 holds no video frame"):
        next(files.frames(clip, [0.0]))


def test_crop_returns_the_box():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(files.crop(image, (1, 2, 3, 2), "violin"), image[2:4, 1:4])
    np.testing.assert_array_equal(files.crop(image, (0, 0, 6, 4), "all"), image)


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, -1, 2, 2), (5, 0, 2, 2), (0, 3, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0)])
def test_boxes_outside_the_frame_are_refused(box):
    message = (
        rf"the box \[{', '.join(map(str, box))}\] of violin in a.mp4 .* is not within the frame, which has 6 × 4 pixels"
    )
    with pytest.raises(ValueError, match=message):
        files.crop(np.zeros((4, 6, 3), np.uint8), box, "violin in a.mp4")


def test_boxes_are_read_with_and_without_groups(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"piece": {"violin": [1, 2, 3, 4], "cello": [5, 6, 7, 8]}, "other": {}}))
    assert files.read_boxes(path) == {"piece": {"violin": (1, 2, 3, 4), "cello": (5, 6, 7, 8)}, "other": {}}
    path.write_text(json.dumps({"violin": [1, 2, 3, 4]}))
    assert files.read_boxes(path) == {"": {"violin": (1, 2, 3, 4)}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"boxes.json cannot be read as JSON \(.*\): give a JSON file of boxes"),
        ("[1]", "does not hold boxes as"),
        ('{"p": 3}', "'p' does not hold boxes as"),
        ('{"p": {"violin": [1, 2, 3]}}', r"the box of 'violin' must be \[x, y, width, height\] .*, not \[1, 2, 3\]"),
        ('{"p": {"violin": [1, 2, 3, 4.5]}}', r"whole pixels, not \[1, 2, 3, 4.5\]"),
        ('{"p": {"violin": "left"}}', r'not "left"'),
    ],
)
def test_invalid_files_of_boxes_are_refused(text, message, tmp_path):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        files.read_boxes(tmp_path / "boxes.json")
    with pytest.raises(ValueError, match=r"none.json: no such file"):
        files.read_boxes(tmp_path / "none.json")
