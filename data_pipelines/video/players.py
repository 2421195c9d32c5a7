"""Drawn players: a picture of one musician at one time, drawn with numpy from the notes that the musician plays.

Each of the 13 instruments has its own colour, shape and playing position, and moves with the notes: a bow makes one
  stroke per note, alternately up and down, slides and hands move to positions that depend on the pitch, wind
  instruments are raised, and instruments become brighter while they sound. Between notes, nothing moves. The colours
  distinguish the instruments and are not realistic. The appearance of the player, the position in the picture and the
  background are drawn
at random from a name, so that players of the same instrument differ and a player always looks the same.

A picture extends from −1 to 1 in x (to the right) and y (down). It is painted shape by shape, from the distance of each
pixel to the shape, with soft edges of one pixel.
"""

import dataclasses
import functools
import math
import zlib

import numpy as np

from data_pipelines.schema import INSTRUMENTS
from data_pipelines.video.player_shapes import COLOURS, Pose, Shape, instrument_shapes

# Seconds in which a hand or a slide moves to the next note, and in which the level of a note rises and falls.
GLIDE, ATTACK, RELEASE = 0.12, 0.05, 0.3
# The flash at the beginning of a note ends when it falls to this level, so that long notes come to rest.
STILL = 0.02


@dataclasses.dataclass(frozen=True)
class _Person:
    """The appearance of a player and the background.

    Attributes:
      skin, clothes: Colours of the player.
      tint: Offset of the colours of the instrument.
      backdrop: Colours of the background at the top and at the bottom, and of the object in it, `[3, 3]`.
      thing: Position x, y and radius of the object in the background.
      place: Position x, y, scale and lean (radians) of the player.
    """

    skin: np.ndarray
    clothes: np.ndarray
    tint: np.ndarray
    backdrop: np.ndarray
    thing: tuple[float, float, float]
    place: tuple[float, float, float, float]


def draw(instrument: str, notes: np.ndarray, time: float, size: int, identity: str) -> np.ndarray:
    """Draw the player of `instrument` at `time` (s), uint8 `[size, size, 3]`; a function of its arguments alone.

    Args:
      notes: rows of onset (s), offset (s) and MIDI pitch `[n, 3]`, in order of onset.
      size: height and width in pixels.
      identity: name of the player, which determines the appearance.

    Raises:
      ValueError: if this instrument cannot be drawn.
    """
    if instrument not in INSTRUMENTS:
        raise ValueError(f"a player of '{instrument}' cannot be drawn, only of {', '.join(INSTRUMENTS)}")
    person, pose = _person(identity), pose_at(instrument, notes, time)
    above, below, thing = person.backdrop
    fade = np.linspace(0.0, 1.0, size, dtype=np.float32)[:, None, None]
    image = np.broadcast_to(above + fade * (below - above), (size, size, 3)).copy()
    x, y, radius = person.thing
    _paint(image, Shape((x, y), (x, y), radius, radius, ""), (0.0, 0.0, 1.0, 0.0), thing)
    shine = 0.8 + 0.25 * pose.level + 0.2 * pose.flash
    colours = {
        "skin": person.skin,
        "head": 0.9 * person.skin,
        "clothes": person.clothes,
        "sleeve": 0.75 * person.clothes,
    }
    for part, colour in COLOURS[instrument].items():
        colours[part] = np.clip((np.asarray(colour, np.float32) + person.tint) * np.float32(shine), 0, 1)
    for shape in instrument_shapes(instrument, pose):
        _paint(image, shape, person.place, colours[shape.colour])
    return (255.0 * image + 0.5).astype(np.uint8)


def pose_at(instrument: str, notes: np.ndarray, time: float) -> Pose:
    """The pose of a player at `time` (s). It depends only on the notes before that time and is constant in long rests.

    Args:
      notes: rows of onset (s), offset (s) and MIDI pitch `[n, 3]`, in order of onset.
    """
    low, high, _ = INSTRUMENTS[instrument]
    count = int(np.searchsorted(notes[:, 0], time, side="right"))
    if not count:
        first = float(notes[0, 2]) if len(notes) else (low + high) / 2
        return Pose(0.0, 0.0, _within(first, low, high), -1.0, first, 0.0)
    recent = notes[max(count - 8, 0) : count].tolist()
    sounding = [row for row, (_, end, _) in enumerate(recent) if end > time]
    row = sounding[-1] if sounding else len(recent) - 1
    onset, offset, pitch = recent[row]
    previous_pitch = recent[row - 1][2] if row else pitch
    since, duration = time - onset, max(offset - onset, 1e-3)
    moved = _smooth(since / GLIDE)
    hand_pitch = previous_pitch + moved * (pitch - previous_pitch)
    number = count - len(recent) + row
    direction = 1.0 if number % 2 else -1.0
    stroke = direction * (1.0 - 2.0 * min(since / duration, 1.0))
    level = _smooth(since / ATTACK) * (1.0 if sounding else _smooth(1.0 - (time - offset) / RELEASE))
    flash = math.exp(-since / 0.12) * level
    return Pose(level, flash if flash > STILL else 0.0, _within(hand_pitch, low, high), stroke, pitch, moved)


def _within(pitch: float, low: float, high: float) -> float:
    """The relative height of a pitch in a range, limited to 0…1."""
    return min(max((pitch - low) / (high - low), 0.0), 1.0)


def _smooth(x: float) -> float:
    """A smooth step from 0 at x = 0 to 1 at x = 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


@functools.lru_cache(maxsize=4096)
def _person(identity: str) -> _Person:
    """The appearance of the player with this name."""
    rng = np.random.default_rng(zlib.crc32(identity.encode()))
    grey = rng.uniform(0.2, 0.5)
    light = rng.uniform(0.45, 0.8, (3, 1)) + rng.uniform(-0.1, 0.1, (3, 3))
    skin = np.array([0.95, 0.75, 0.6]) * rng.uniform(0.45, 1.0)
    x, y, scale, lean = rng.uniform((-0.18, -0.04, 0.95, -0.08), (0.06, 0.12, 1.15, 0.08)).tolist()
    thing = (rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0), rng.uniform(0.2, 0.6))
    clothes, tint = grey + rng.uniform(-0.12, 0.12, 3), rng.uniform(-0.07, 0.07, 3)
    arrays = [array.astype(np.float32) for array in (skin, clothes, tint, np.clip(light, 0.0, 1.0))]
    return _Person(arrays[0], arrays[1], arrays[2], arrays[3], thing, (x, y, scale, lean))


def _paint(image: np.ndarray, shape: Shape, place: tuple[float, float, float, float], colour: np.ndarray) -> None:
    """Paint a shape over the float image `[H, H, 3]`, within the bounding box of the shape.

    Args:
      place: position x, y, scale and lean (radians) of the shape's coordinates in the picture.
    """
    x, y, scale, lean = place
    size = len(image)
    half, cos, sin = size / 2, math.cos(lean) * scale, math.sin(lean) * scale
    # Ends of the shape in pixels, counted from the centre of the first pixel.
    (ax, ay), (bx, by) = (
        (half * (1.0 + x + cos * u - sin * v) - 0.5, half * (1.0 + y + sin * u + cos * v) - 0.5)
        for u, v in (shape.start, shape.end)
    )
    start, end, edge = half * scale * shape.first, half * scale * shape.last, half * scale * shape.hollow
    margin = max(start, end) + edge + 1.0
    left, right = max(int(min(ax, bx) - margin), 0), min(int(max(ax, bx) + margin) + 2, size)
    top, bottom = max(int(min(ay, by) - margin), 0), min(int(max(ay, by) + margin) + 2, size)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left - ax, right - ax - 0.5, dtype=np.float32)
    dy = np.arange(top - ay, bottom - ay - 0.5, dtype=np.float32)[:, None]
    along_x, along_y = bx - ax, by - ay
    length = along_x * along_x + along_y * along_y
    if length > 0.0:
        share = dx * np.float32(along_x / length) + dy * np.float32(along_y / length)
        np.minimum(np.maximum(share, 0.0, out=share), 1.0, out=share)
        distance = np.sqrt((dx - along_x * share) ** 2 + (dy - along_y * share) ** 2)
        distance -= start + share * (end - start)
    else:
        distance = np.sqrt(dx * dx + dy * dy) - np.float32(start)
    if edge:
        distance = np.abs(distance, out=distance) - np.float32(edge)
    cover = np.minimum(np.maximum(0.5 - distance, 0.0), 1.0)[:, :, None]
    region = image[top:bottom, left:right]
    region += cover * (colour - region)
