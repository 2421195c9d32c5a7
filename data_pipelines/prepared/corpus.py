"""Random access to the excerpts of a prepared corpus, through a view that selects and adds its stems."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipelines import processes
from data_pipelines.audio.samples import scale_to_float
from data_pipelines.names import known_names, match
from data_pipelines.prepared import records
from data_pipelines.prepared.commands import frame_features_command, prepare_command
from data_pipelines.prepared.store import Metadata, Row, corpus_folder, shards
from data_pipelines.schema import DRAWN_PLAYERS, SPLITS, variant_name
from data_pipelines.video import features, frames, players

# A view maps the names of the stems that a recipe reads to the stored stems that each is the sum of:
# {"vocals": ("vocals",), "accompaniment": ("drums", "bass", "other")}. A track that has none of the stored stems lacks
# the stem.
View = dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A section of a stem of a corpus: `samples` samples of `stem` in `track`, beginning with sample `start`."""

    track: str
    stem: str
    start: int
    samples: int


class Corpus:
    """One split of a prepared corpus. It opens its files on first use, so that it can be sent to worker processes.

    Attributes:
      folder: Folder of the corpus at its sample rate.
      metadata: Content of its `metadata.json`.
      split: Name of the split.
      view: Stored stems that each stem of the view is the sum of.
      stems: Names of the stems of the view, in order.
      sample_rate: Sample rate in Hz.
      channels: Audio channels that `read` returns.
    """

    def __init__(
        self, folder: Path, metadata: Metadata, split: str, view: View, channels: int, only: Sequence[str] | None = None
    ):
        self.folder, self.split, self.view, self.channels = folder, split, view, channels
        self.metadata = metadata
        if channels != metadata.channels and 1 not in (channels, metadata.channels):
            stored = metadata.channels
            raise ValueError(f"cannot turn {stored} channels into {channels}: give 1 or {stored} channels")
        self.stems = tuple(view)
        self.sample_rate = metadata.sample_rate
        selected = None if only is None else set(only)
        members = [row for row in metadata.index[split] if selected is None or row.track in selected]
        self._rows = rows = {(row.track, row.stem): row for row in members}
        self._parts: dict[str, dict[str, list[Row]]] = {}
        for stem, stored in view.items():
            tracks = dict.fromkeys(row.track for row in members if row.stem in stored)
            self._parts[stem] = {
                track: [rows[track, part] for part in stored if (track, part) in rows] for track in tracks
            }
        self._shifts = {stem: self._add_variants(stem, rows) for stem in self.stems}
        self._notes: dict[tuple[str, str], np.ndarray] = {}
        self._features: dict[str, features.FrameFeatures] = {}

    def _add_variants(self, stem: str, rows: dict[tuple[str, str], Row]) -> tuple[int, ...]:
        """Add the pitch-shifted variants of a stem that all of its parts have in all tracks; return their semitones."""
        parts, shifts = self._parts[stem], [0]
        for shift in sorted({int(name.rpartition("@")[2]) for _, name in rows if "@" in name}):
            keys = {track: [(track, variant_name(row.stem, shift)) for row in parts[track]] for track in parts}
            if all(key in rows for track_keys in keys.values() for key in track_keys):
                variant = {track: [rows[key] for key in track_keys] for track, track_keys in keys.items()}
                self._parts[variant_name(stem, shift)] = variant
                shifts.append(shift)
        return tuple(sorted(shifts))

    def shifts(self, stem: str) -> tuple[int, ...]:
        """The pitch shifts in semitones with which `stem` is stored: 0, and those of its variants."""
        return self._shifts[stem]

    def variant(self, stem: str, shift: int) -> str:
        """The name under which the variant of `stem` that is shifted by `shift` semitones can be read.

        Raises:
          ValueError: if this variant is not stored.
        """
        if shift not in self._shifts[stem]:
            raise ValueError(f"{self.folder} has '{stem}' shifted by {self._shifts[stem]} semitones, not {shift}")
        return variant_name(stem, shift)

    def tracks(self, stem: str) -> tuple[str, ...]:
        """Names of the tracks that have `stem`."""
        return self._names[stem]

    @functools.cached_property
    def all_tracks(self) -> tuple[str, ...]:
        """Names of the tracks that have any stem of the view."""
        return tuple(dict.fromkeys(track for stem in self.stems for track in self._names[stem]))

    @functools.cached_property
    def stored_tracks(self) -> tuple[str, ...]:
        """Names of all selected tracks of the split, also of those that have no stem of the view."""
        return tuple(dict.fromkeys(track for track, _ in self._rows))

    def length(self, track: str, stem: str) -> int:
        """The length of `stem` in `track`, in samples."""
        return max(row.samples for row in self._parts[stem][track])

    def parts(self, track: str, stem: str) -> Sequence[Row]:
        """The stored stems that `stem` of a track, or a variant of it, is the sum of; empty if the track lacks it."""
        return self._parts[stem].get(track, ())

    def segments(self, row: Row) -> Iterator[np.ndarray]:
        """Yield a stored stem record by record, int16 `[n, C]`: n = `segment_samples` except in the last record."""
        size = self.metadata.segment_samples
        for number in range(self._segments(row)):
            count = min(size, row.samples - number * size)
            yield self._records.audio(row.first + number, self.metadata.channels, 0, count)

    def draw(self, rng: np.random.Generator, stem: str, samples: int, without: str = "") -> Excerpt:
        """A random excerpt of `stem`: first a track other than `without`, then a position in it, both uniformly drawn.

        Raises:
          ValueError: if there is no other track.
        """
        names = self._names[stem]
        track = names[rng.integers(len(names))]
        while track == without:
            if len(names) == 1:
                raise ValueError(f"{self.folder} has only one {self.split} track with '{stem}'")
            track = names[rng.integers(len(names))]
        room = self.length(track, stem) - samples
        return Excerpt(track, stem, int(rng.integers(room + 1)) if room > 0 else 0, samples)

    def read(self, excerpt: Excerpt) -> np.ndarray:
        """The audio of an excerpt, float32 `[samples, channels]` in −1…1, with zeros beyond the end of the track."""
        audio = np.zeros((excerpt.samples, self.channels), np.float32)
        self.add(excerpt, 1.0, audio)
        return audio

    def add(self, excerpt: Excerpt, gain: float, out: np.ndarray) -> None:
        """Multiply an excerpt by `gain` and add it to `out` `[samples, channels]`.

        It is added record by record, because a record fits into the processor's cache, which halves the time.
        """
        size, stored = self.metadata.segment_samples, self.metadata.channels
        scratch = np.empty((size, self.channels), np.float32)
        for row in self._parts[excerpt.stem][excerpt.track]:
            position, end = excerpt.start, min(excerpt.start + excerpt.samples, row.samples)
            while position < end:
                segment, offset = divmod(position, size)
                count = min(size - offset, end - position)
                audio = self._records.audio(row.first + segment, stored, offset, offset + count)
                section = out[position - excerpt.start :][:count]
                section += scale_to_float(audio, gain, scratch[:count])
                position += count

    def notes(self, track: str, stem: str) -> np.ndarray:
        """All notes of a stem as rows of onset (s), offset (s) and MIDI pitch, in order of onset: `[n, 3]`, n ≥ 0."""
        if (track, stem) not in self._notes:
            self._notes[track, stem] = self._read_notes(track, stem)
        return self._notes[track, stem]

    def _read_notes(self, track: str, stem: str) -> np.ndarray:
        notes = []
        for row in self._parts[stem][track]:
            for record in range(row.first, row.first + self._segments(row)):
                notes.append(self._records.rows(record, "notes", 3))
        return np.unique(np.concatenate(notes), axis=0)

    def frames(self, track: str, stem: str, times: np.ndarray, size: int) -> np.ndarray:
        """Pictures of the player of a stem at `times` (s, from the start of the track), uint8 `[n, size, size, 3]`.

        They are the stored frames nearest in time; beyond the end, the last frame. For corpora without video, such as
        `chamber`, the player is drawn from the notes. For a stem that is a sum, it is the player of the first stored
        stem.

        Raises:
          ValueError: if the corpus has neither frames nor drawn players, or the track has no frame.
        """
        row, times = self._player_row(track, stem), np.asarray(times, float)
        where = f"'{row.stem}' in '{track}' of {self.folder}"
        if self.metadata.options.get("kind") in DRAWN_PLAYERS:
            notes, name = self.notes(track, stem), f"{track}/{row.stem}"
            return np.stack([players.draw(row.stem, notes, time, size, name) for time in times.tolist()])
        seconds = self.metadata.segment_samples / self.sample_rate
        read = functools.partial(self._segment_frames, row)
        jpegs = frames.nearest(read, self._segments(row), seconds, times.tolist())
        if not jpegs:
            raise ValueError(f"{where} has no video frame: prepare a corpus with frames, or train without them")
        return np.stack([frames.decode(jpeg, size, f"a frame of {where}") for jpeg in jpegs])

    def features(self, track: str, stem: str, times: np.ndarray, name: str) -> np.ndarray:
        """The cached features `name` of the frames nearest to `times` (s), float32 `[n, D]`.

        Raises:
          ValueError: if they have not been computed, or not for this stem; the message holds the command.
        """
        row = self._player_row(track, stem)
        try:
            if name not in self._features:
                self._features[name] = features.read(self.folder, name)
            return self._features[name].at(self.split, track, row.stem, times)
        except (FileNotFoundError, KeyError):
            command = frame_features_command(self.folder.parents[1], self.metadata.name, self.sample_rate, name)
            raise ValueError(
                f"{self.folder} has no features '{name}' of '{row.stem}' in '{track}'. Compute them with:\n  {command}"
            ) from None

    def _player_row(self, track: str, stem: str) -> Row:
        """The stored stem that has the player: for a pitch-shifted variant, the stem that it was made from."""
        row = self._parts[stem][track][0]
        return self._rows[track, row.parent] if "@" in row.stem else row

    def _segment_frames(self, row: Row, segment: int) -> tuple[list[bytes], float]:
        record = row.first + segment
        packed, rate = self._records.fields(record).get("frames", b""), self._records.rows(record, "frame_rate", 1)
        with self._records.naming(record):
            return frames.unpack(packed), float(rate.sum())

    def _segments(self, row: Row) -> int:
        return -(-row.samples // self.metadata.segment_samples)

    @functools.cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        return {stem: tuple(tracks) for stem, tracks in self._parts.items()}

    @functools.cached_property
    def _records(self) -> records.Records:
        processes.keep_freed_memory()
        source = records.Records(shards(self.folder, self.metadata.name, self.split))
        expected = sum(self._segments(row) for row in self.metadata.index[self.split])
        if len(source) != expected:
            raise ValueError(f"{self.folder} holds {len(source)} of {expected} records: prepare the corpus again")
        return source

    def __getstate__(self):
        state = {key: value for key, value in self.__dict__.items() if key != "_records"}
        return state | {"_notes": {}, "_features": {}}


def open_corpus(
    root: Path | str,
    name: str,
    sample_rate: int,
    split: str,
    view: View | None = None,
    channels: int = 0,
    *,
    first: int = 0,
    tracks: int = 0,
) -> Corpus:
    """Open one split of the corpus `name`, prepared at `sample_rate` (Hz).

    Args:
      view: stems to read, whose stored parts are named without regard to case; by default all stems that are not part
        of another one.
      channels: audio channels to read; 1 mixes down; by default all that are stored.
      first: number of the first track to read, counted from 0 in the stored order.
      tracks: number of tracks to read from there on; 0 reads all remaining ones.

    Raises:
      ValueError: if the corpus is not prepared at this rate (the message holds the command that prepares it) or is
        damaged, or if it lacks the split, the tracks or a stem of the view.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split '{split}'; choose one of {', '.join(SPLITS)}")
    folder = corpus_folder(root, name, sample_rate)
    try:
        metadata = Metadata.load(folder)
    except FileNotFoundError:
        raise ValueError(
            f"the corpus '{name}' is not prepared at {sample_rate} Hz under '{root}'. Prepare it with:\n"
            f"  {prepare_command(root, name, sample_rate)}"
        ) from None
    rows = metadata.index.get(split, [])
    if not rows:
        remedy = ": train with --train.validate-every 0" if split == "validation" else ""
        raise ValueError(f"the corpus '{name}' has no {split} split; it has {', '.join(metadata.index)}{remedy}")
    only = None
    if first or tracks:
        names = list(dict.fromkeys(row.track for row in rows))
        only = names[first : first + tracks if tracks else None]
        if len(only) < max(tracks, 1):
            selection = f"{tracks or 'the'} tracks from number {first} on"
            raise ValueError(
                f"the corpus '{name}' has {len(names)} tracks in its {split} split, too few for {selection}"
            )
        rows = [row for row in rows if row.track in set(only)]
    view = view or {row.stem: (row.stem,) for row in sorted(rows, key=lambda row: row.stem) if not row.parent}
    known = sorted({row.stem for row in rows})
    view = {stem: tuple(match(part, known) or part for part in stored) for stem, stored in view.items()}
    for stem, stored in view.items():
        if not set(known).intersection(stored):
            listed = known_names(stem, known, "it has")
            raise ValueError(f"the corpus '{name}' has no '{stem}' in its {split} split; {listed}")
    return Corpus(folder, metadata, split, view, channels or metadata.channels, only)
