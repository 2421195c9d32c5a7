"""Arrangement of a score for a band: the notes of each instrument, in quarter notes.

The highest voice becomes the vocals, the lowest one the bass, and chord instruments play the voices between them. The
drums play a groove that suits the metre. A tune without harmony gets one triad per bar: of the three main triads of its
key, the one that shares most with the melody.
"""

import numpy as np

from data_pipelines.corpora.scores import Part, Work

# Onset and offset in quarter notes, and MIDI pitch.
Notes = list[tuple[float, float, int]]

VOCAL_RANGE = (52, 81)
BASS_RANGE = (28, 50)
CHORD_RANGE = (48, 76)
DRUM_KEYS = {"kick": 36, "snare": 38, "hihat": 42}
OPEN_HIHAT = 46


def arrange(
    work: Work, chord_instruments: tuple[str, ...], rng: np.random.Generator, quarters: float
) -> dict[str, Notes]:
    """The notes of `vocals`, `bass`, each of `chord_instruments` and the three drums.

    The work is repeated until it lasts `quarters` quarter notes, and is cut there. Each instrument rests in randomly
    drawn sections.
    """
    length = float(np.ceil(max(part.notes[-1][1] for part in work.parts) / work.metre) * work.metre)
    repeats = max(1, int(np.ceil(quarters / length)))
    key = int(rng.integers(-5, 7))
    melody = _transposed(work.parts[0], key)
    if len(work.parts) >= 3:
        low = _transposed(work.parts[-1], key)
        chords = [note for part in work.parts[1:-1] for note in _transposed(part, key)]
    else:
        low, chords = _harmony(melody, length, work.metre)
    lines = {"vocals": _line_into(melody, VOCAL_RANGE), "bass": _line_into(low, BASS_RANGE)}
    chords = sorted(_notes_into(chords, CHORD_RANGE))
    for name in chord_instruments:
        lines[name] = _STYLES[name](chords)
    lines = {name: _repeated(notes, length, repeats) for name, notes in lines.items()}
    lines |= _drums(work.metre, length * repeats, rng)
    section = 8 * work.metre
    return {name: _with_rests(_cut(notes, quarters), section, rng) for name, notes in lines.items()}


def _transposed(part: Part, semitones: int) -> Notes:
    return [(onset, offset, pitch + semitones) for onset, offset, pitch in part.notes]


def _line_into(notes: Notes, limits: tuple[int, int]) -> Notes:
    """The line, transposed by octaves such that its median pitch is nearest to the middle of the limits."""
    median = float(np.median([pitch for _, _, pitch in notes]))
    shift = 12 * round((np.mean(limits) - median) / 12)
    return [(onset, offset, pitch + shift) for onset, offset, pitch in notes]


def _notes_into(notes: Notes, limits: tuple[int, int]) -> Notes:
    """The notes, each transposed by octaves into the limits."""
    low, high = limits

    def fold(pitch: int) -> int:
        if pitch < low:
            return low + (pitch - low) % 12
        return high - (high - pitch) % 12 if pitch > high else pitch

    return [(onset, offset, fold(pitch)) for onset, offset, pitch in notes]


def _harmony(melody: Notes, length: float, metre: float) -> tuple[Notes, Notes]:
    """A bass line and triads, one per bar: the tonic, subdominant or dominant that shares most with the melody."""
    tonic = melody[-1][2] % 12  # folk tunes end on the tonic
    weights = np.zeros(12)
    for onset, offset, pitch in melody:
        weights[pitch % 12] += offset - onset
    third = 4 if weights[(tonic + 4) % 12] >= weights[(tonic + 3) % 12] else 3
    bass, chords = [], []
    for bar in range(round(length / metre)):
        start, end = bar * metre, (bar + 1) * metre
        triads = [[(tonic + root + step) % 12 for step in (0, third, 7)] for root in (0, 5, 7)]
        shared = [
            sum(
                min(offset, end) - max(onset, start)
                for onset, offset, pitch in melody
                if onset < end and offset > start and pitch % 12 in triad
            )
            for triad in triads
        ]
        triad = triads[int(np.argmax(shared))]
        bass.append((start, end, 36 + triad[0]))
        chords += [(start, end, 60 + degree) for degree in triad]
    return bass, chords


def _sustained(chords: Notes) -> Notes:
    return chords


def _struck(chords: Notes) -> Notes:
    """Chords of which each note is repeated on every quarter that it lasts."""
    return [
        (beat, min(beat + 1.0, offset), pitch)
        for onset, offset, pitch in chords
        for beat in np.arange(onset, offset - 1e-6, 1.0)
    ]


def _picked(chords: Notes) -> Notes:
    """Chords broken into eighths, which play the sounding notes in turn."""
    end = max(offset for _, offset, _ in chords)
    picked = []
    for number, time in enumerate(np.arange(0.0, end, 0.5)):
        sounding = sorted({pitch for onset, offset, pitch in chords if onset <= time < offset})
        if sounding:
            picked.append((float(time), float(time) + 0.75, sounding[number % len(sounding)]))
    return picked


_STYLES = {"piano": _struck, "guitar": _picked, "organ": _sustained, "strings": _sustained}


def _drums(metre: float, quarters: float, rng: np.random.Generator) -> dict[str, Notes]:
    """A groove of eighths or sixteenths: kick on the strong beats, snare on the others, and a fill every eight bars."""
    beats = max(2, round(metre))
    fine = 0.25 if rng.random() < 0.3 else 0.5
    kick = [0.0, *(beat for beat in range(2, beats, 2) if beats % 2 == 0)]
    kick += [beat + 0.5 for beat in range(beats) if rng.random() < 0.25]
    snare = [float(beat) for beat in range(1, beats, 2 if beats % 2 == 0 else 1)]
    played: dict[str, Notes] = {"kick": [], "snare": [], "hihat": []}
    for bar in range(int(quarters // beats)):
        start, fill = float(bar * beats), bar % 8 == 7
        played["kick"] += [(start + beat, start + beat + 0.2, DRUM_KEYS["kick"]) for beat in sorted(set(kick))]
        hits = list(np.arange(beats - 1, beats, 0.25)) if fill else []
        played["snare"] += [(start + beat, start + beat + 0.2, DRUM_KEYS["snare"]) for beat in sorted({*snare, *hits})]
        for beat in np.arange(0.0, beats, fine):
            name = OPEN_HIHAT if fill and beat == beats - 0.5 else DRUM_KEYS["hihat"]
            played["hihat"].append((start + float(beat), start + float(beat) + 0.1, name))
    return played


def _repeated(notes: Notes, length: float, repeats: int) -> Notes:
    return [
        (onset + number * length, offset + number * length, pitch)
        for number in range(repeats)
        for onset, offset, pitch in notes
    ]


def _cut(notes: Notes, quarters: float) -> Notes:
    return [(onset, min(offset, quarters), pitch) for onset, offset, pitch in notes if onset < quarters]


def _with_rests(notes: Notes, section: float, rng: np.random.Generator) -> Notes:
    """The notes without randomly drawn sections: each rests with a probability of 15 %, but never all of them."""
    if not notes:
        return notes
    count = int(notes[-1][0] // section) + 1
    resting = rng.random(count) < 0.15
    if resting.all():
        return notes
    return [note for note in notes if not resting[int(note[0] // section)]]
