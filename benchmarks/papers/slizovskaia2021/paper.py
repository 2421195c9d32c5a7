"""The published tables of Slizovskaia et al. 2021 (Solos and URMP), which the experiments print with ours.

The paper marks results that are not significant with a dot; the text version used here does not contain these marks.
"""

import dataclasses

METRICS = ("SI-SDR", "SD-SDR", "PES", "SDR", "SIR", "SAR")


@dataclasses.dataclass(frozen=True)
class Published:
    """A line of Tables II to IV.

    Attributes:
      method: Name of the method.
      experiment: Number of the experiment, or 0 for a bound.
      wiener: Number of iterations of the Wiener filter.
      scores: Mean and standard deviation in dB, in the order of `METRICS`; None where the paper has n/a.
      frames: Number of video frames of each player.
    """

    method: str
    experiment: int
    wiener: int
    scores: tuple[tuple[float, float] | None, ...]
    frames: int = 0


def _line(method: str, experiment: int, wiener: int, scores: str, frames: int = 0) -> Published:
    return Published(method, experiment, wiener, tuple(_score(cell) for cell in scores.split()), frames)


def _score(cell: str) -> tuple[float, float] | None:
    mean, _, deviation = cell.partition("±")
    return (float(mean), float(deviation)) if deviation else None


UNCONDITIONED = "-7.4±9.9 -17.5±19.8 -24.4±15.8 -2.3±6.9 1.5±8.4 5.7±5.2"
TABLES: dict[str, tuple[Published, ...]] = {
    "II": (
        _line("IRM", 0, 0, "13.1±5.4 12.7±6.4 n/a 11.8±4.3 19.9±5.6 13±4.3"),
        _line("input mix", 0, 0, "-3.7±5.7 -3.7±5.7 18.2±4.2 -3.5±4.8 -3.2±4.9 18.1±11.2"),
        _line("no filtering", 1, 0, "-2.1±6.2 -15.2±10.0 -8.1±5.9 -0.8±5.8 0.6±6.8 10.9±3.2"),
        _line("Wiener (1 it.)", 1, 1, "-3.9±7.5 -16.0±16.1 -15.1±10.1 -1±6.2 1.5±7.7 7.7±3.8"),
        _line("Wiener (2 it.)", 1, 2, "-7.6±10.7 -21.4±24.1 -25.4±16.8 -2.6±7.1 1.7±8.5 5±5.6"),
        _line("exp. 1 + CL", 2, 2, "-8.2±10.9 -24.1±25.1 -26.2±17.8 -3.1±7.1 1.4±8.5 4.6±5.7"),
        _line("exp. 1 + BM", 3, 2, "-9.7±15.2 -21.6±27.4 -36.2±18.4 -3.8±8 0.1±7.1 4.9±7.5"),
        _line("exp. 1 + noise", 4, 2, "-7.6±9.2 -21.7±20.4 -21.7±15.6 -3.1±6.9 0.2±8.3 6.0±5.3"),
        _line("exp. 1 + log-normalise", 5, 2, "-10.1±11.6 -25.3±24.9 -27.0±17.0 -3.9±7.6 0.7±9.5 4.6±6.1"),
        _line("exp. 1 + linear STFT", 6, 2, UNCONDITIONED),
        _line("exp. 1 + MHU-Net", 7, 2, "-8.1±9.1 -23.7±20.4 -20.9±15.8 -3.3±6.4 0.1±8.2 5.8±4.5"),
    ),
    "III": (
        _line("w/o conditioning", 6, 2, UNCONDITIONED),
        _line("FiLM-bottleneck", 8, 2, "-5.1±6.8 -19.2±10.7 -7.1±9.9 -1.3±6.0 1.9±8.2 6.6±2.9"),
        _line("FiLM-encoder", 9, 2, "-4.2±6.4 -19.7±8.8 -6.9±8.8 -1.2±5.8 1.1±7.5 8.5±3.0"),
        _line("FiLM-final", 10, 2, "-4.3±6.3 -17.3±9.1 -9.3±11.2 -1.6±5.6 0.6±7.3 8.2±3.0"),
        _line("Label-multiply", 11, 2, "-7.2±9.8 -15.3±15.5 -18.6±20.3 -1.9±6.8 2.4±8.8 5.1±4.1"),
    ),
    "IV": (
        _line("w/o conditioning", 6, 2, UNCONDITIONED),
        _line("FiLM-encoder", 12, 2, "-12.1±13.9 -34.9±29.7 -21.7±22.3 -5.1±7.9 -0.3±8.1 3.3±6.9", 1),
        _line("FiLM-bottleneck", 17, 2, "-5.1±7.7 -17.6±14.7 -16.3±17.7 -2.2±5.7 0.2±7.0 7.2±3.7", 1),
        _line("FiLM-final", 18, 2, "-4.8±7.3 -23.7±20.2 -21.3±18.7 -1.6±5.6 0.8±8.0 10.3±5.4", 1),
        _line("Final-multiply", 16, 2, "-4.1±7.2 -19.0±13.9 -15.4±14.3 -1.5±6.1 1.0±8.4 9.2±3.7", 1),
        _line("FiLM-final-lstm", 13, 2, "-4.5±6.2 -21.5±11.9 -12.7±13.8 -2.1±5.4 -0.4±6.7 9.3±3.7", 5),
        _line("FiLM-bottleneck-lstm", 14, 2, "-5.6±7.6 -19.3±15.8 -18.3±16.2 -2.1±5.8 0.2±7.0 7.5±4.1", 5),
        _line("FiLM-bottleneck-mp", 15, 2, "-8.2±9.0 -26.6±21.4 -19.3±17.7 -3.3±6.3 0.5±7.6 5.2±5.5", 5),
        _line("SoP-unet7", 19, 0, "-18.7±8.9 -21.1±9.4 n/a -3.8±4.0 -1.5±4.7 7.6±3.1", 3),
        _line("SoP-unet7-ft", 20, 0, "-17.5±8.5 -20.3±9.3 n/a -2.6±5.0 0.5±6.4 6.9±2.5", 3),
        _line("SoP-unet5-Solos", 21, 0, "-16.9±8.6 -18.7±8.9 n/a -2.9±4.7 -1.7±5.3 11.1±6.9", 3),
    ),
}

# Table I. URMP, summed over the players of an instrument: recordings, pieces, numbers of duets, trios and quartets,
# mean duration. Solos: recordings, mean duration. `all` is the paper's TOTAL.
CORPORA: dict[str, tuple[int, int, tuple[int, int, int], str, int, str]] = {
    "violin": (11, 20, (5, 12, 3), "1:51", 66, "6:16"),
    "viola": (7, 12, (1, 8, 3), "1:52", 55, "5:31"),
    "cello": (10, 11, (3, 7, 1), "1:52", 134, "7:21"),
    "double_bass": (3, 4, (0, 1, 2), "2:28", 58, "8:53"),
    "flute": (8, 11, (3, 4, 4), "1:50", 48, "4:00"),
    "oboe": (3, 6, (1, 2, 3), "1:58", 53, "5:45"),
    "clarinet": (8, 10, (2, 5, 3), "1:44", 49, "3:23"),
    "bassoon": (2, 3, (0, 0, 3), "1:25", 56, "5:08"),
    "saxophone": (8, 9, (2, 5, 2), "1:31", 45, "2:42"),
    "trumpet": (11, 12, (5, 5, 2), "2:07", 50, "1:14"),
    "horn": (5, 5, (0, 3, 2), "2:02", 50, "5:11"),
    "trombone": (8, 9, (2, 5, 2), "2:01", 50, "5:03"),
    "tuba": (3, 5, (0, 3, 2), "1:47", 41, "2:49"),
    "all": (87, 40, (12, 20, 8), "1:53", 755, "5:16"),
}

# Table V: F-scale, V-scale, model, noise, mask, loss, curriculum, conditioning.
_LINEAR = ("linear", "dB-norm", "U-Net", "No", "Ratio", "L2", "No")
_PIXELS = ("No", "Binary", "BCE", "No", "SoP-LinearCombination (visual)")
HYPERPARAMETERS: dict[int, tuple[str, ...]] = {
    1: ("log", "dB-norm", "U-Net", "No", "Ratio", "L2", "No", "None"),
    2: ("log", "dB-norm", "U-Net", "No", "Ratio", "L2", "Yes", "None"),
    3: ("log", "dB-norm", "U-Net", "No", "Binary", "BCE", "No", "None"),
    4: ("log", "dB-norm", "U-Net", "Yes", "Ratio", "L2", "No", "None"),
    5: ("log", "log", "U-Net", "No", "Ratio", "L2", "No", "None"),
    6: (*_LINEAR, "None"),
    7: ("log", "dB-norm", "MHU-Net", "No", "Ratio", "L2", "No", "None"),
    8: (*_LINEAR, "FiLM-bottleneck (binary)"),
    9: (*_LINEAR, "FiLM-encoder (binary)"),
    10: (*_LINEAR, "FiLM-final (binary)"),
    11: (*_LINEAR, "Label-multiply (binary)"),
    12: (*_LINEAR, "FiLM-encoder (visual)"),
    13: (*_LINEAR, "FiLM-final-lstm (visual-motion)"),
    14: (*_LINEAR, "FiLM-bottleneck-lstm (visual-motion)"),
    15: (*_LINEAR, "FiLM-bottleneck-maxpool (visual-motion)"),
    16: (*_LINEAR, "Final-multiply (visual)"),
    17: (*_LINEAR, "FiLM-bottleneck (visual)"),
    18: (*_LINEAR, "FiLM-final (visual)"),
    19: ("log", "log", "SoP-7", *_PIXELS),
    20: ("log", "log", "SoP-7-ft", *_PIXELS),
    21: ("log", "log", "SoP-5", *_PIXELS),
}
