"""Reading of video files with PyAV, frame by frame, and the boxes that mark the position of each player."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import read_json
from data_pipelines.names import quoted, shortened
from data_pipelines.pyav import opened

# x and y of the upper left corner, width and height, in pixels of the frame.
Box = tuple[int, int, int, int]


def duration(path: Path | str) -> float:
    """The length of a video in seconds, from its metadata or, if they lack it, from its last frame.

    Raises:
      ValueError: if the file cannot be read or holds no video.
    """
    with _opened_video(path) as (container, stream):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        last = 0.0
        for last, _ in _timed_frames(path, container, stream):  # noqa: B007
            pass
        return last + (float(1 / stream.average_rate) if stream.average_rate else 0.0)


def frames(path: Path | str, times: Iterable[float]) -> Iterator[np.ndarray]:
    """Yield the frame nearest to each of `times`, uint8 `[H, W, 3]`; beyond the end, the last frame.

    Args:
      times: times in s in ascending order. The file is decoded once, from its beginning.

    Raises:
      ValueError: if the file cannot be read or holds no frame, or times are not in order.
    """
    with _opened_video(path) as (container, stream):
        timed_frames = _timed_frames(path, container, stream)
        nearest, following = next(timed_frames), next(timed_frames, None)
        previous = -np.inf
        for time in times:
            if time < previous:
                raise ValueError(
                    f"the frame of {path} at {time:g} s was requested after that at {previous:g} s: sort the times"
                )
            previous = time
            while following is not None and abs(following[0] - time) <= abs(nearest[0] - time):
                nearest, following = following, next(timed_frames, None)
            yield nearest[1].to_ndarray(format="rgb24")


@contextlib.contextmanager
def _opened_video(path: Path | str) -> Iterator[tuple[Any, Any]]:
    """Open a file and yield its container and its first video stream."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    with opened(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no video: give a file with a video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _timed_frames(path: Path | str, container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Yield each frame with its time in s from the start of the file.

    Raises:
      ValueError: if there is no frame.
    """
    import av

    start, step = (container.start_time or 0) / av.time_base, float(1 / (stream.average_rate or 25))
    time = None
    for frame in container.decode(stream):
        time = frame.time - start if frame.time is not None else 0.0 if time is None else time + step
        yield time, frame
    if time is None:
        raise ValueError(f"{path} holds no video frame: fetch it again, or give another video")


def crop(image: np.ndarray, box: Box, where: str) -> np.ndarray:
    """The part of a frame `[H, W, 3]` within a box.

    Args:
      where: player and file of the box, for the error message.

    Raises:
      ValueError: if a part of the box is outside the frame.
    """
    x, y, width, height = box
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > image.shape[1] or y + height > image.shape[0]:
        raise ValueError(
            f"the box {list(box)} of {where} (x, y, width, height) is not within the frame, "
            f"which has {image.shape[1]} × {image.shape[0]} pixels"
        )
    return image[y : y + height, x : x + width]


def read_boxes(path: Path | str) -> dict[str, dict[str, Box]]:
    """Read boxes from JSON, `{group: {player: [x, y, width, height]}}`; boxes without groups get the group `""`.

    Raises:
      ValueError: if the file is missing or of another form.
    """
    content = read_json(Path(path), "give a JSON file of boxes, {player: [x, y, width, height]}")
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold boxes as {{group: {{player: [x, y, width, height]}}}}")
    if any(isinstance(value, list) for value in content.values()):
        content = {"": content}
    for group, players in content.items():
        if not isinstance(players, dict):
            raise ValueError(f"{path}: {quoted(group)} does not hold boxes as {{player: [x, y, width, height]}}")
        for player, box in players.items():
            if not isinstance(box, list) or len(box) != 4 or any(type(number) is not int for number in box):
                raise ValueError(
                    f"{path}: the box of {quoted(player)} must be [x, y, width, height] in whole pixels, "
                    f"not {shortened(json.dumps(box))}"
                )
    return {group: {player: tuple(box) for player, box in players.items()} for group, players in content.items()}
