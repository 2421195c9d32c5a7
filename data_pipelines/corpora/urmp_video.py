"""The players of a URMP piece as its video shows them: `Vid_01_Jupiter_vn_vc.mp4`, cut to the box of each.

The corpus comes without boxes. They are written by hand once, since players stay where they are, as JSON: of each piece
and each player [x, y, width, height] in pixels of the video. A player is named by track, or by instrument, which is the
first one in the piece who plays it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipelines.video import files, frames

Boxes = dict[str, dict[str, files.Box]]


class Player(Protocol):
    """What is asked of a player: the name of the track, and the instrument."""

    @property
    def name(self) -> str: ...

    @property
    def instrument(self) -> str: ...


def find_video(folder: Path) -> Path:
    """The video of a piece.

    Raises:
      ValueError: if there is not exactly one.
    """
    found = sorted(folder.glob("Vid_*.mp4"))
    if len(found) != 1:
        raise ValueError(f"{folder} holds {len(found)} videos, Vid_{folder.name}.mp4 is needed for frames")
    return found[0]


def find_box(boxes: Boxes, piece: str, player: Player, players: Sequence[Player]) -> files.Box:
    """The box of one of the `players` of a piece.

    Raises:
      ValueError: if there is none.
    """
    given = boxes.get(piece, {})
    if player.name in given:
        return given[player.name]
    first = next(other for other in players if other.instrument == player.instrument)
    if player.instrument in given and player.name == first.name:
        return given[player.instrument]
    raise ValueError(
        f"there is no box of {player.name} ({player.instrument}) in '{piece}', only of {', '.join(given) or 'nobody'}: "
        f"add {{'{piece}': {{'{player.name}': [x, y, width, height]}}}} to the file of --boxes"
    )


def watch(path: Path, boxes: dict[str, files.Box], seconds: float, rate: float, size: int) -> dict[str, list[bytes]]:
    """JPEGs of each player, `rate` a second for so many seconds, cut from one pass through the video.

    Args:
      boxes: by the name of the player.
      size: height and width that they are stretched to; 0 leaves them as they are.

    Raises:
      ValueError: as `video.frames` and `video.crop`; the latter names the video, the player, the box and the picture.
    """
    found: dict[str, list[bytes]] = {player: [] for player in boxes}
    seconds = min(seconds, files.duration(path))
    for picture in files.frames(path, np.arange(max(frames.first_frame_at(seconds, rate), 1)) / rate):
        for player, box in boxes.items():
            seen = files.crop(picture, box, f"{player} in {path.name}")
            found[player].append(frames.encode(frames.resize(seen, size) if size else seen))
    return found
