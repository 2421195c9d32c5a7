"""Frames of the players of a URMP piece, cropped from its video `Vid_01_Jupiter_vn_vc.mp4`.

The corpus does not contain boxes. The players stand side by side, from left to right in the order of their numbers, so
by default each of them has one of equally wide vertical strips. Better boxes can be written by hand to a JSON file,
with [x, y, width, height] in pixels of the video for each player of each piece. One box per player suffices, since the
players do not change their position. The name of a player is the name of the track, or the instrument, which stands for
its first player in the piece.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from data_pipelines.audio.listing import entries
from data_pipelines.video import files, frames

Boxes = dict[str, dict[str, files.Box]]


class Strip(NamedTuple):
    """One of `count` equally wide vertical strips of a picture, the first one at the left."""

    place: int
    count: int

    def to_box(self, image: np.ndarray) -> files.Box:
        """Return the strip in pixels of a picture `[H, W, 3]`."""
        height, width = image.shape[:2]
        left, right = (place * width // self.count for place in (self.place, self.place + 1))
        return (left, 0, right - left, height)


class Player(Protocol):
    """A player with the name of the track and the instrument."""

    @property
    def name(self) -> str: ...

    @property
    def instrument(self) -> str: ...


def find_video(folder: Path) -> Path:
    """The video of the piece in a folder.

    Raises:
      ValueError: if there is not exactly one.
    """
    videos = entries(folder, "Vid_*.mp4")
    if len(videos) != 1:
        raise ValueError(f"{folder} holds {len(videos)} videos: frames need exactly one, Vid_{folder.name}.mp4")
    return videos[0]


def find_box(boxes: Boxes, piece: str, player: Player, players: Sequence[Player]) -> files.Box:
    """The box of a player.

    Args:
      players: all players of the piece, in order.

    Raises:
      ValueError: if there is no box of this player.
    """
    of_piece = boxes.get(piece, {})
    if player.name in of_piece:
        return of_piece[player.name]
    first = next(other for other in players if other.instrument == player.instrument)
    if player.instrument in of_piece and player.name == first.name:
        return of_piece[player.instrument]
    raise ValueError(
        f"there is no box of {player.name} ({player.instrument}) in '{piece}', only of "
        f"{', '.join(of_piece) or 'none'}: "
        f"add {{'{piece}': {{'{player.name}': [x, y, width, height]}}}} to the file of --boxes"
    )


def player_frames(
    path: Path, boxes: Mapping[str, files.Box | Strip], seconds: float, rate: float, size: int
) -> dict[str, list[bytes]]:
    """Crop the frames of each player from a video, which is decoded once.

    Args:
      boxes: box or strip of each player, by name.
      seconds: time from the beginning of the video for which frames are returned.
      rate: frames per second.
      size: height and width to which frames are resized; 0 keeps their size.

    Returns:
      The JPEGs of each player.

    Raises:
      ValueError: as `video.files.frames` and `video.files.crop`.
    """
    jpegs: dict[str, list[bytes]] = {player: [] for player in boxes}
    seconds = min(seconds, files.duration(path))
    for image in files.frames(path, np.arange(max(frames.first_frame_at(seconds, rate), 1)) / rate):
        for player, box in boxes.items():
            pixels = box.to_box(image) if isinstance(box, Strip) else box
            crop = files.crop(image, pixels, f"{player} in {path.name}")
            jpegs[player].append(frames.encode(frames.resize(crop, size) if size else crop))
    return jpegs
