"""The shapes of drawn players: the colours, the playing position and the movement of each instrument."""

import dataclasses
import math

Point = tuple[float, float]
# Colours of the parts of each instrument (red, green, blue): its body, and the details on it.
_DARK, _LIGHT = (0.15, 0.12, 0.1), (0.95, 0.95, 0.9)
COLOURS: dict[str, dict[str, tuple[float, float, float]]] = {
    "bassoon": {"body": (0.60, 0.05, 0.30), "detail": _LIGHT},
    "cello": {"body": (0.85, 0.10, 0.08), "detail": _DARK},
    "clarinet": {"body": (0.06, 0.06, 0.10), "detail": _LIGHT},
    "double_bass": {"body": (0.36, 0.20, 0.06), "detail": _LIGHT},
    "flute": {"body": (0.80, 0.93, 1.00), "detail": _DARK},
    "horn": {"body": (1.00, 0.50, 0.65), "detail": _DARK},
    "oboe": {"body": (0.05, 0.50, 0.20), "detail": _LIGHT},
    "saxophone": {"body": (1.00, 0.85, 0.10), "detail": _DARK},
    "trombone": {"body": (0.10, 0.80, 0.80), "detail": _LIGHT},
    "trumpet": {"body": (0.15, 0.30, 0.95), "detail": _LIGHT},
    "tuba": {"body": (0.50, 0.85, 0.15), "detail": _DARK},
    "viola": {"body": (0.55, 0.20, 0.65), "detail": _DARK},
    "violin": {"body": (1.00, 0.50, 0.08), "detail": _DARK},
}
# Parts that are painted first, in this order.
_LAYERS = {"clothes": 0, "head": 0, "sleeve": 1}


@dataclasses.dataclass(frozen=True)
class Pose:
    """The state of a player at one time.

    Attributes:
      level: Level of the sound, 0…1.
      flash: 1 at the beginning of a note, then falling to 0.
      height: Pitch of the hand or slide within the range of the instrument, 0…1, which glides from note to note.
      stroke: Position of the bow, −1…1, which moves from one end to the other during a note.
      pitch: MIDI pitch of the note.
      moved: Completed part of the movement from the note before, 0…1.
    """

    level: float
    flash: float
    height: float
    stroke: float
    pitch: float
    moved: float


@dataclasses.dataclass(frozen=True)
class Shape:
    """A line with round ends, of which the radius changes from one end to the other.

    Attributes:
      start, end: Ends of the line.
      first, last: Radius at the start and at the end.
      colour: Name of the part that has this colour.
      hollow: Half the width of the outline, if only the outline is painted; 0 fills the shape.
    """

    start: Point
    end: Point
    first: float
    last: float
    colour: str
    hollow: float = 0.0


def instrument_shapes(instrument: str, pose: Pose) -> list[Shape]:
    """The shapes of a player and the instrument, from back to front: hands may hide the instrument, sleeves do not."""
    shapes = _SHAPES[instrument](pose)
    return sorted(shapes, key=lambda shape: _LAYERS.get(shape.colour, 2))


def _at(start: Point, degrees: float, distance: float) -> Point:
    """The point at a distance from `start`, in the direction `degrees` clockwise from the right."""
    angle = math.radians(degrees)
    return start[0] + distance * math.cos(angle), start[1] + distance * math.sin(angle)


def _disc(centre: Point, radius: float, colour: str, hollow: float = 0.0) -> Shape:
    return Shape(centre, centre, radius, radius, colour, hollow)


def _tube(start: Point, end: Point, first: float, last: float = 0.0, colour: str = "body") -> Shape:
    return Shape(start, end, first, last or first, colour)


def _player(pose: Pose, x: float = 0.0) -> list[Shape]:
    nod = 0.05 * pose.flash
    return [Shape((x, -0.12), (x, 1.0), 0.2, 0.3, "clothes"), _disc((x, -0.55 + nod), 0.2, "head")]


def _arm(shoulder: Point, hand: Point) -> list[Shape]:
    return [Shape(shoulder, hand, 0.08, 0.055, "sleeve"), _disc(hand, 0.065, "skin")]


LEFT, RIGHT, MOUTH = (-0.24, -0.15), (0.24, -0.15), (0.02, -0.44)


def _at_the_chin(pose: Pose, degrees: float, size: float) -> list[Shape]:
    """Violin and viola, with the neck to the side and the bow across it."""
    chin = (0.06, -0.34)
    centre, waist, neck = (_at(chin, degrees, size * distance) for distance in (0.2, 0.45, 1.0))
    fingers = _at(chin, degrees, size * (0.95 - 0.35 * pose.height))
    bridge = _at(chin, degrees, size * (0.36 + 0.12 * (1.0 - pose.level)))
    bow = _at(_at(bridge, degrees - 90.0, 0.25 * (1.0 - pose.level)), degrees + 75.0, 0.33 * pose.stroke)
    tip, frog = _at(bow, degrees - 105.0, 0.5), _at(bow, degrees + 75.0, 0.5)
    return [
        *_player(pose),
        _tube(waist, neck, 0.035, colour="detail"),
        _disc(centre, 0.25 * size, "body"),
        _disc(waist, 0.2 * size, "body"),
        *_arm(RIGHT, fingers),
        _tube(tip, frog, 0.028, colour="detail"),
        *_arm(LEFT, frog),
    ]


def _upright(pose: Pose, x: float, size: float, top: float) -> list[Shape]:
    """Cello and double bass, in front of or beside the player, with a bow that moves from side to side."""
    sway = 0.04 * (pose.height - 0.5)
    lower, upper = (x, 0.5), (x + sway, 0.5 - 0.75 * size)
    neck = (x + 0.05 + 2 * sway, top)
    fingers = (neck[0] - 0.01, top + (0.15 + 0.75 * pose.height) * (upper[1] - top))
    bow = (x - 0.05 + 0.33 * pose.stroke, 0.5 - 0.38 * size + 0.12 * (1.0 - pose.level))
    tip, frog = _at(bow, 8.0, 0.5), _at(bow, 188.0, 0.5)
    return [
        *_player(pose, x - 0.1 if size < 0.6 else x - 0.5),
        _tube(lower, (x, 1.0), 0.02, colour="detail"),
        _tube(upper, neck, 0.045, colour="detail"),
        _disc(lower, 0.52 * size, "body"),
        _disc(upper, 0.4 * size, "body"),
        *_arm((x + 0.2 - size * 0.5, -0.12), fingers),
        _tube(tip, frog, 0.03, colour="detail"),
        *_arm((x - 0.3 - 0.3 * size, -0.1), frog),
    ]


def _lift(pose: Pose, degrees: float) -> float:
    """The angle by which a wind instrument is raised while it sounds; it grows with the pitch up to `degrees`."""
    return degrees * pose.level * (0.3 + 0.7 * pose.height)


def _keys(start: Point, degrees: float, length: float, pose: Pose) -> list[Shape]:
    """Hands on a tube, the lower on the tube the lower the pitch is."""
    reach = 0.75 - 0.35 * pose.height
    upper, lower = _at(start, degrees, length * (reach - 0.3)), _at(start, degrees, length * reach)
    return [*_arm(RIGHT, upper), *_arm(LEFT, lower)]


def _flute(pose: Pose) -> list[Shape]:
    degrees = 14.0 - _lift(pose, 28.0)
    start = _at(MOUTH, degrees, -0.22)
    return [
        *_player(pose),
        _tube(start, _at(start, degrees, 1.15), 0.06),
        *_keys(start, degrees, 1.15, pose),
        _disc(MOUTH, 0.03, "detail"),
    ]


def _oboe(pose: Pose) -> list[Shape]:
    degrees = 72.0 - _lift(pose, 40.0)
    reed, end = _at(MOUTH, degrees, 0.16), _at(MOUTH, degrees, 1.0)
    return [
        *_player(pose),
        _tube(MOUTH, reed, 0.03, colour="detail"),
        _tube(reed, end, 0.055, 0.12),
        *_keys(reed, degrees, 0.84, pose),
    ]


def _clarinet(pose: Pose) -> list[Shape]:
    degrees = 82.0 - _lift(pose, 40.0)
    end = _at(MOUTH, degrees, 1.0)
    return [
        *_player(pose),
        _tube(MOUTH, end, 0.065),
        _tube(_at(MOUTH, degrees, 0.88), _at(MOUTH, degrees, 1.1), 0.065, 0.17),
        _disc(_at(MOUTH, degrees, 0.2), 0.06, "detail"),
        *_keys(MOUTH, degrees, 1.0, pose),
    ]


def _bassoon(pose: Pose) -> list[Shape]:
    degrees = -64.0 - _lift(pose, 24.0)
    foot = (-0.38, 0.85)
    top = _at(foot, degrees, 1.85)
    return [
        *_player(pose, 0.1),
        _tube(foot, top, 0.11, 0.07),
        _tube(_at(foot, degrees, 1.72), top, 0.09, colour="detail"),
        _tube(MOUTH, _at(foot, degrees, 0.95), 0.025, colour="detail"),
        *_arm(LEFT, _at(foot, degrees, 0.35 + 0.25 * pose.height)),
        *_arm(RIGHT, _at(foot, degrees, 0.8 + 0.25 * pose.height)),
    ]


def _saxophone(pose: Pose) -> list[Shape]:
    degrees = 88.0 - _lift(pose, 26.0)
    crook = _at(MOUTH, degrees - 70.0, 0.26)
    bend = _at(crook, degrees + 8.0, 0.95)
    bell = _at(bend, degrees - 138.0, 0.5)
    return [
        *_player(pose),
        _tube(MOUTH, crook, 0.035),
        _tube(crook, bend, 0.05, 0.12),
        _tube(bend, bell, 0.11, 0.24),
        _disc(bell, 0.12, "detail"),
        *_keys(crook, degrees + 8.0, 0.95, pose),
    ]


def _trumpet(pose: Pose) -> list[Shape]:
    degrees = 26.0 - _lift(pose, 44.0)
    bell, grip = _at(MOUTH, degrees, 0.92), _at(MOUTH, degrees, 0.42)
    pistons = [_at(MOUTH, degrees, 0.36 + 0.1 * number) for number in range(3)]
    return [
        *_player(pose),
        _tube(MOUTH, bell, 0.04),
        Shape(_at(MOUTH, degrees + 14.0, 0.3), _at(MOUTH, degrees + 8.0, 0.62), 0.09, 0.09, "body", 0.03),
        _tube(_at(MOUTH, degrees, 0.72), bell, 0.05, 0.2),
        *_arm(RIGHT, _at(grip, degrees + 90.0, 0.12)),
        *_valves(pistons, degrees, pose),
    ]


def _valves(pistons: list[Point], degrees: float, pose: Pose) -> list[Shape]:
    """Three valves, each pressed according to a bit of the pitch, which is more regular than real fingering."""
    valves = []
    for number, piston in enumerate(pistons):
        down = pose.level * (int(pose.pitch) >> number & 1)
        valves.append(_tube(piston, _at(piston, degrees - 90.0, 0.16 - 0.1 * down), 0.035, colour="detail"))
    return valves


def _trombone(pose: Pose) -> list[Shape]:
    degrees = 24.0 - 12.0 * pose.level
    out = 0.62 + 0.55 * (1.0 - pose.height)
    below = _at(MOUTH, degrees + 90.0, 0.17)
    slide, bend = _at(MOUTH, degrees, out), _at(below, degrees, out)
    bell = _at(MOUTH, degrees - 180.0, 0.62)
    return [
        *_player(pose),
        _tube(MOUTH, slide, 0.04),
        _tube(below, bend, 0.04),
        _tube(slide, bend, 0.05),
        _tube(MOUTH, bell, 0.05),
        _tube(_at(MOUTH, degrees - 180.0, 0.4), bell, 0.06, 0.25),
        _disc(bell, 0.1, "detail"),
        *_arm(LEFT, below),
        *_arm(RIGHT, bend),
    ]


def _horn(pose: Pose) -> list[Shape]:
    lift = 0.14 * _lift(pose, 1.0)
    centre, bell = (0.2, 0.2 - lift), (0.55, 0.5 - 1.5 * lift)
    return [
        *_player(pose),
        _tube(MOUTH, (0.2, -0.1 - lift), 0.035),
        _disc(centre, 0.3, "body", 0.06),
        _disc(centre, 0.15, "body", 0.04),
        _tube((0.35, 0.35 - lift), bell, 0.07, 0.3),
        _disc(bell, 0.18, "detail"),
        *_arm(LEFT, (0.02, 0.15 - lift)),
        *_valves([(0.06 + 0.1 * number, 0.1 - lift) for number in range(3)], 0.0, pose),
    ]


def _tuba(pose: Pose) -> list[Shape]:
    lean = 0.16 * _lift(pose, 1.0)
    bell, foot = (0.42 - lean, -0.72), (0.2, 0.55)
    return [
        *_player(pose, -0.22),
        _tube(foot, bell, 0.32, 0.2),
        Shape((bell[0] - 0.3, bell[1]), (bell[0] + 0.3, bell[1] + 0.05), 0.13, 0.13, "body"),
        Shape((bell[0] - 0.24, bell[1]), (bell[0] + 0.24, bell[1] + 0.05), 0.06, 0.06, "detail"),
        Shape((0.2, 0.5), (0.24, 0.2), 0.2, 0.16, "detail", 0.03),
        _tube((-0.2, -0.44), (0.12, -0.2), 0.035),
        *_arm((-0.4, -0.12), (0.02, 0.3)),
        *_valves([(0.06 + 0.11 * number, 0.12) for number in range(3)], 0.0, pose),
    ]


_SHAPES = {
    "bassoon": _bassoon,
    "cello": lambda pose: _upright(pose, 0.05, 0.55, -0.62),
    "clarinet": _clarinet,
    "double_bass": lambda pose: _upright(pose, 0.28, 0.75, -1.05),
    "flute": _flute,
    "horn": _horn,
    "oboe": _oboe,
    "saxophone": _saxophone,
    "trombone": _trombone,
    "trumpet": _trumpet,
    "tuba": _tuba,
    "viola": lambda pose: _at_the_chin(pose, 26.0, 1.05),
    "violin": lambda pose: _at_the_chin(pose, -14.0, 0.8),
}
