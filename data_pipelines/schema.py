"""The one place that names what crosses a wall: record fields, batch keys, splits and class lists."""

import numpy as np

# A record is a segment of one stem. `audio` is int16 `[T, C]`, full scale 32768; `segment` counts from the start of the
# track; `parent` is the stem that a sub-stem is part of, or that the record is a pitch-shifted variant of, or empty;
# `notes` are rows of onset s, offset s and MIDI pitch, in the time of the track, that sound during the segment.
RECORD_FIELDS = ("audio", "track", "stem", "parent", "segment", "sample_rate", "notes")
# Only where a corpus has video: JPEG frames of the stem's player that fall into the segment, packed by `frames.pack`,
# and how many there are in a second of the track.
FRAME_FIELDS = ("frames", "frame_rate")
AUDIO_DTYPE = np.int16
FULL_SCALE = 32768.0

SPLITS = ("train", "validation", "test")

# Keys of an example, waveforms `[T, C]` float32 in −1…1. A batch holds the same keys with a leading `[B]`.
MIXTURE = "mixture"
TARGET = "target"
QUERY = "query"
# Of pairs of instruments: sources and the same again otherwise `[S, T, C]`, queries `[S, Q, T, C]`, and the notes of
# the sources `[S, M, 3]`, padded with rows of zeros.
SOURCES = "sources"
OTHERS = "others"
QUERIES = "queries"
NOTES = "notes"
# Of sources in slots, some of them empty: the sources `[S, T, C]`, which stem each slot holds, int32 `[S]`, −1 for
# none, and what is seen of its player: frames, uint8 `[S, n, H, W, 3]`, or what a frozen network made of them,
# float32 `[S, n, D]`. Empty slots are zeros.
SLOTS = "slots"
FRAMES = "frames"
FEATURES = "features"
# Of songs to adapt to: where each stem sounds, 0 or 1, `[S, T, 1]` or `[S, T, C]`,
# and the deviation of the whole song from its mean, mixed down.
ACTIVE = "active"
UNIT = "unit"

# Classes of a frame of a piano roll: the 88 keys of a piano from this MIDI pitch on, and silence.
LOWEST_PITCH = 21
SILENCE_CLASS = 88
CLASSES = 89

# The 13 instruments of URMP (Li et al. 2019) with the range that each is written for here (sounding MIDI pitch) and its
# General MIDI program, counted from 0.
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

# Lin et al. 2021, section 3.1: pieces in which any of the unseen instruments plays are for testing only.
SEEN_INSTRUMENTS = ("cello", "clarinet", "flute", "saxophone", "trombone", "trumpet", "viola", "violin")
UNSEEN_INSTRUMENTS = ("bassoon", "double_bass", "horn", "oboe", "tuba")

FOUR_STEMS = ("vocals", "drums", "bass", "other")
# Sub-stems of the `band` corpus and the stem that each is part of.
BAND_PARENTS = {
    "kick": "drums",
    "snare": "drums",
    "hihat": "drums",
    "piano": "other",
    "guitar": "other",
    "organ": "other",
    "strings": "other",
}

# Corpora that are made on the spot, from no source: the kind of each and the options that differ from its defaults.
BUILT_IN = {
    "chamber": ("chamber", {}),
    "chamber_shifted": ("chamber", {"works": 60, "longest": 60.0, "shifts": 4}),
    "band": ("band", {}),
}

# Names that configs give to corpora which need a file or folder of the user's.
NAMED_CORPORA = {
    "band_fluid": ("band", {"soundfont": "FluidR3_GM.sf2"}),
    "urmp_pieces": ("urmp", {"source": "DIR", "merged": True, "split": "test"}),
}

# Kinds of corpora without video whose players are drawn from their notes.
DRAWN_PLAYERS = ("chamber",)


def variant_name(stem: str, semitones: int) -> str:
    """What a stem shifted in pitch is stored as: `violin@+2`, `violin@-4`; `violin` itself for 0."""
    return f"{stem}@{semitones:+d}" if semitones else stem
