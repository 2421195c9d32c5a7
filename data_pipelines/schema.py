"""Names and constants that several packages share: record fields, batch keys, splits, classes and built-in corpora."""

import unicodedata

import numpy as np

# A record is a segment of one stem. `audio` is int16 `[T, C]`, full scale 32768. `segment` counts the segments from the
# start of the track. `parent` names the stem that a sub-stem is part of, or that the record is a pitch-shifted variant
# of; otherwise it is empty. `notes` are the notes that sound during the segment, as rows of onset (s), offset (s) and
# MIDI pitch; times count from the start of the track.
RECORD_FIELDS = ("audio", "track", "stem", "parent", "segment", "sample_rate", "notes")
# Corpora with video have these fields as well: the JPEG frames of the stem's player during the segment, packed by
# `frames.pack`, and the number of frames per second.
FRAME_FIELDS = ("frames", "frame_rate")
AUDIO_DTYPE = np.int16
FULL_SCALE = 32768.0

SPLITS = ("train", "validation", "test")

# Keys of an example. These are waveforms `[T, C]`, float32 in −1…1. A batch has the same keys with a leading `[B]`.
MIXTURE = "mixture"
TARGET = "target"
QUERY = "query"
# Keys of examples with pairs of instruments: the sources `[S, T, C]`, the same sources in another pitch shift
# `[S, T, C]`, queries `[S, Q, T, C]`, and the notes of the sources `[S, M, 3]`, padded with rows of zeros.
SOURCES = "sources"
OTHERS = "others"
QUERIES = "queries"
NOTES = "notes"
# Keys of examples with sources in slots, some of which may be empty: the sources `[S, T, C]`; the index of the stem in
# each slot, int32 `[S]`, −1 for an empty slot; and either frames of its player, uint8 `[S, N, H, W, 3]`, or features
# that a frozen network computed from them, float32 `[S, N, D]`. Empty slots hold zeros.
SLOTS = "slots"
FRAMES = "frames"
FEATURES = "features"
# Keys of songs for adaptation: whether each stem is active, 0 or 1, `[S, T, 1]` or `[S, T, C]`, and the standard
# deviation of the complete song, mixed down to one channel.
ACTIVE = "active"
UNIT = "unit"

# Classes of a frame of a piano roll: the 88 keys of a piano, beginning with this MIDI pitch, and silence.
LOWEST_PITCH = 21
SILENCE_CLASS = 88
CLASSES = 89

# The 13 instruments of URMP (Li et al. 2019). Each has the lowest and highest sounding MIDI pitch that the built-in
# corpora use, and its General MIDI program, counted from 0.
INSTRUMENTS = {
    "bassoon": (34, 72, 70),
    "cello": (36, 76, 42),
    "clarinet": (50, 91, 71),
    "double_bass": (28, 60, 43),
    "flute": (60, 96, 73),
    "horn": (41, 77, 60),
    "oboe": (58, 91, 68),
    "saxophone": (49, 80, 65),
    "trombone": (40, 72, 57),
    "trumpet": (54, 82, 56),
    "tuba": (28, 58, 58),
    "viola": (48, 88, 41),
    "violin": (55, 100, 40),
}
FAMILIES = {
    "strings": ("violin", "viola", "cello", "double_bass"),
    "woodwind": ("flute", "oboe", "clarinet", "bassoon", "saxophone"),
    "brass": ("trumpet", "horn", "trombone", "tuba"),
}

# Lin et al. 2021, section 3.1: pieces in which any of the unseen instruments plays are used for testing only.
SEEN_INSTRUMENTS = ("cello", "clarinet", "flute", "saxophone", "trombone", "trumpet", "viola", "violin")
UNSEEN_INSTRUMENTS = ("bassoon", "double_bass", "horn", "oboe", "tuba")

FOUR_STEMS = ("vocals", "drums", "bass", "other")
# Sub-stems of the corpus `band`, with the stem that each is part of.
BAND_PARENTS = {
    "kick": "drums",
    "snare": "drums",
    "hihat": "drums",
    "piano": "other",
    "guitar": "other",
    "organ": "other",
    "strings": "other",
}

# Built-in corpora, which are rendered from scores and need no source: kind, and options that differ from the defaults.
BUILT_IN = {
    "chamber": ("chamber", {}),
    "chamber_shifted": ("chamber", {"works": 60, "longest": 60.0, "shifts": 4}),
    "band": ("band", {}),
}

# Corpora that configs name and that need a file or folder of the user: kind, and options that differ from the defaults.
NAMED_CORPORA = {
    "band_fluid": ("band", {"soundfont": "FluidR3_GM.sf2"}),
    "band_fluid_instrumental": ("band", {"soundfont": "FluidR3_GM.sf2", "instrumental": 0.25}),
    "musdb18_all": ("musdb18", {"source": "DIR", "validation": "none"}),
    "urmp_published": ("urmp", {"source": "DIR", "tracks": "published"}),
    "urmp_pieces": ("urmp", {"source": "DIR", "merged": True, "split": "test"}),
}

# Kinds of corpora without video for which pictures of the players are drawn from the notes.
DRAWN_PLAYERS = ("chamber",)


def variant_name(stem: str, semitones: int) -> str:
    """The stored name of a stem that is shifted in pitch: `violin@+2`, `violin@-4`, or `violin` for 0."""
    return f"{stem}@{semitones:+d}" if semitones else stem


LONGEST_NAME = 200
_PLAIN = frozenset(" _-.+()")


def check_name(name: str, where: str) -> None:
    """Check that the name of a stem is plain: letters and digits of any script, space, and `_ - . + ( )`.

    A name with a path separator would write outside of its folder, and `@` marks a variant in another pitch.

    Args:
      where: what the name is of, which begins the error message, such as `song/a@b.wav: the name of the stem`.

    Raises:
      ValueError: if the name is empty, longer than 200 characters, begins with a dot or a space, ends with a space, or
        has another character.
    """
    _check_length(name, where)
    if name != name.strip() or name.startswith("."):
        raise ValueError(f"{where} is {name!r}: it begins with a dot or a space, or ends with a space: rename it")
    for character in name:
        # L, M and N are the Unicode categories of letters, of marks that combine with them, and of digits.
        if character not in _PLAIN and unicodedata.category(character)[0] not in "LMN":
            raise ValueError(
                f"{where} is {name!r}: only letters, digits, space and _ - . + ( ) may be in it: rename it"
            )


def check_track_name(name: str, where: str) -> None:
    """Check the name of a track, which may have the punctuation of titles as well; arguments as in `check_name`.

    Raises:
      ValueError: as `check_name`, but only path separators, control characters and `@` are refused.
    """
    _check_length(name, where)
    for character in name:
        # C are control characters and bytes that are no text, Zl and Zp the separators of lines and paragraphs.
        if character in "/\\@" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"{where} is {name!r}: path separators, control characters and @ are refused: rename it")


def _check_length(name: str, where: str) -> None:
    if not isinstance(name, str) or not name.strip() or name in (".", ".."):
        raise ValueError(f"{where} is {name!r}: give it a name with letters")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{where} is '{name[:20]}…', {len(name)} characters long: give it at most {LONGEST_NAME}")
