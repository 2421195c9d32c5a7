"""Video files through PyAV, one picture at a time, and the boxes that say where in the picture each player is."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# x and y of the upper left corner, width, height: pixels of the picture.
Box = tuple[int, int, int, int]


def duration(path: Path | str) -> float:
    """Length of a video in seconds, as its file says, or as long as its pictures last where it does not.

    Raises:
      ValueError: if PyAV is missing, or the file cannot be read or holds no video.
    """
    with _opened(path) as (container, stream):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        last = 0.0
        for last, _ in _pictures(path, container, stream):  # noqa: B007
            pass
        return last + (float(1 / stream.average_rate) if stream.average_rate else 0.0)


def frames(path: Path | str, times: Iterable[float]) -> Iterator[np.ndarray]:
    """The pictures nearest to `times`, uint8 `[H, W, 3]`, decoded from the beginning on.

    Args:
      times: s, none before the one before it. Beyond the end it is the last picture.

    Raises:
      ValueError: if PyAV is missing, the file cannot be read or holds no picture, or times go back.
    """
    with _opened(path) as (container, stream):
        pictures = _pictures(path, container, stream)
        shown, after = next(pictures), next(pictures, None)
        now = -np.inf
        for time in times:
            if time < now:
                raise ValueError(f"{path} is asked for {time:g} s after {now:g} s: ask in order of time")
            now = time
            while after is not None and abs(after[0] - time) <= abs(shown[0] - time):
                shown, after = after, next(pictures, None)
            yield shown[1].to_ndarray(format="rgb24")


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[tuple[Any, Any]]:
    """The container and the first video stream of a file."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise ValueError(f"reading {path} needs PyAV: pip install 'qsep-jax[video]'") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video: give a file with pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except FFmpegError as error:
        raise ValueError(f"{path} cannot be decoded ({error.strerror}); is it damaged?") from None


def _pictures(path: Path | str, container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Time in s, from where the file starts, and picture, at least one."""
    import av

    start, step = (container.start_time or 0) / av.time_base, float(1 / (stream.average_rate or 25))
    time = None
    for picture in container.decode(stream):
        time = picture.time - start if picture.time is not None else 0.0 if time is None else time + step
        yield time, picture
    if time is None:
        raise ValueError(f"{path} holds no video frame: fetch it again, or give another video")


def crop(image: np.ndarray, box: Box, where: str) -> np.ndarray:
    """The part of a picture `[H, W, 3]` within a box; `where` says whose box it is.

    Raises:
      ValueError: if the box is not wholly within the picture.
    """
    x, y, width, height = box
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > image.shape[1] or y + height > image.shape[0]:
        raise ValueError(
            f"the box {list(box)} of {where} (x, y, width, height) is not within the picture, "
            f"{image.shape[1]} × {image.shape[0]} pixels"
        )
    return image[y : y + height, x : x + width]


def read_boxes(path: Path | str) -> dict[str, dict[str, Box]]:
    """Boxes from JSON, `{group: {player: [x, y, width, height]}}`, or without groups, which gives the group `""`.

    Raises:
      ValueError: if the file is not there or of another form.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold boxes as {{group: {{player: [x, y, width, height]}}}}")
    if any(isinstance(value, list) for value in content.values()):
        content = {"": content}
    for group, players in content.items():
        if not isinstance(players, dict):
            raise ValueError(f"{path}: '{group}' holds no boxes, {{player: [x, y, width, height]}}")
        for player, box in players.items():
            if not isinstance(box, list) or len(box) != 4 or any(type(number) is not int for number in box):
                raise ValueError(
                    f"{path}: the box of '{player}' is [x, y, width, height] in whole pixels, not {json.dumps(box)}"
                )
    return {group: {player: tuple(box) for player, box in players.items()} for group, players in content.items()}
