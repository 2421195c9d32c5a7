"""A built corpus as a random-access source of excerpts, through a view of its stems."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipelines import processes
from data_pipelines.prepared import records
from data_pipelines.prepared.store import Metadata, Row, corpus_folder, shards
from data_pipelines.schema import BUILT_IN, DRAWN_PLAYERS, FULL_SCALE, NAMED_CORPORA, SPLITS, variant_name
from data_pipelines.video import features, frames, players

# A view names the stems that a recipe sees and the stored stems that each is the sum of:
# {"vocals": ("vocals",), "accompaniment": ("drums", "bass", "other")}. Tracks without any of them lack the stem.
View = dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A place in a corpus: `samples` of `stem` in `track`, from sample `start`."""

    track: str
    stem: str
    start: int
    samples: int


class Corpus:
    """One split of a built corpus. Opens its files on first use, so it can be sent to worker processes.

    Attributes:
      stems: names of the stems of the view, in order.
      sample_rate: Hz.
      channels: of what `read` returns.
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
        taken = None if only is None else set(only)
        kept = [row for row in metadata.index[split] if taken is None or row.track in taken]
        self._rows = rows = {(row.track, row.stem): row for row in kept}
        self._parts: dict[str, dict[str, list[Row]]] = {}
        for stem, stored in view.items():
            tracks = dict.fromkeys(row.track for row in kept if row.stem in stored)
            self._parts[stem] = {
                track: [rows[track, part] for part in stored if (track, part) in rows] for track in tracks
            }
        self._shifts = {stem: self._add_variants(stem, rows) for stem in self.stems}
        self._notes: dict[tuple[str, str], np.ndarray] = {}
        self._features: dict[str, features.FrameFeatures] = {}

    def _add_variants(self, stem: str, rows: dict[tuple[str, str], Row]) -> tuple[int, ...]:
        """Find the pitch-shifted variants of all tracks of a stem that all of its parts have; their semitones."""
        parts, shifts = self._parts[stem], [0]
        for shift in sorted({int(name.rpartition("@")[2]) for _, name in rows if "@" in name}):
            names = {track: [(track, variant_name(row.stem, shift)) for row in parts[track]] for track in parts}
            if all(name in rows for each in names.values() for name in each):
                variant = {track: [rows[name] for name in each] for track, each in names.items()}
                self._parts[variant_name(stem, shift)] = variant
                shifts.append(shift)
        return tuple(sorted(shifts))

    def shifts(self, stem: str) -> tuple[int, ...]:
        """Semitones in which `stem` is stored: 0, and those of its pitch-shifted variants."""
        return self._shifts[stem]

    def variant(self, stem: str, shift: int) -> str:
        """The name by which `stem` is read as it was shifted by semitones.

        Raises:
          ValueError: if that is not stored.
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

    def length(self, track: str, stem: str) -> int:
        """Samples of `stem` in `track`."""
        return max(row.samples for row in self._parts[stem][track])

    def parts(self, track: str, stem: str) -> Sequence[Row]:
        """The stored stems that `stem` of a track, or a variant of it, is the sum of; none where the track lacks it."""
        return self._parts[stem].get(track, ())

    def segments(self, row: Row) -> Iterator[np.ndarray]:
        """A stored stem as it lies on disk, record by record, int16 `[n, C]`: `segment_samples` but for the last."""
        size = self.metadata.segment_samples
        for number in range(self._segments(row)):
            count = min(size, row.samples - number * size)
            yield self._records.audio(row.first + number, self.metadata.channels, 0, count)

    def draw(self, rng: np.random.Generator, stem: str, samples: int, without: str = "") -> Excerpt:
        """A random excerpt of `stem`: any track but `without`, then any place in it, with the same chance each.

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
        """The audio of an excerpt, float32 `[samples, channels]` in −1…1; zeros where the track has ended."""
        audio = np.zeros((excerpt.samples, self.channels), np.float32)
        self.add(excerpt, 1.0, audio)
        return audio

    def add(self, excerpt: Excerpt, gain: float, out: np.ndarray) -> None:
        """Add an excerpt times `gain` to `out` `[samples, channels]`.

        Record by record, because what fits into the processor's cache is mixed twice as fast.
        """
        size, stored = self.metadata.segment_samples, self.metadata.channels
        scratch = np.empty((size, self.channels), np.float32)
        for row in self._parts[excerpt.stem][excerpt.track]:
            position, end = excerpt.start, min(excerpt.start + excerpt.samples, row.samples)
            while position < end:
                segment, offset = divmod(position, size)
                count = min(size - offset, end - position)
                audio = self._records.audio(row.first + segment, stored, offset, offset + count)
                place = out[position - excerpt.start :][:count]
                place += _to_float(audio, gain, scratch[:count])
                position += count

    def notes(self, track: str, stem: str) -> np.ndarray:
        """All notes of a stem, rows of onset s, offset s, MIDI pitch `[n, 3]`, in order of onset; possibly none."""
        if (track, stem) not in self._notes:
            self._notes[track, stem] = self._read_notes(track, stem)
        return self._notes[track, stem]

    def _read_notes(self, track: str, stem: str) -> np.ndarray:
        found = []
        for row in self._parts[stem][track]:
            for record in range(row.first, row.first + self._segments(row)):
                packed = records.fields(self._records[record])["notes"]
                found.append(np.frombuffer(packed, np.float32).reshape(-1, 3))
        return np.unique(np.concatenate(found), axis=0)

    def frames(self, track: str, stem: str, times: np.ndarray, size: int) -> np.ndarray:
        """The player of a stem at `times` (s, from the start of the track), uint8 `[n, size, size, 3]`.

        Stored frames are those nearest in time, beyond the end the last one. Players of notes without frames are drawn.
        Of a stem that is a sum, it is the first one's player.

        Raises:
          ValueError: if the corpus has neither, or the track no frame.
        """
        row, times = self._player(track, stem), np.asarray(times, float)
        where = f"'{row.stem}' in '{track}' of {self.folder}"
        if self.metadata.options.get("kind") in DRAWN_PLAYERS:
            notes, name = self.notes(track, stem), f"{track}/{row.stem}"
            return np.stack([players.draw(row.stem, notes, time, size, name) for time in times.tolist()])
        seconds = self.metadata.segment_samples / self.sample_rate
        read = functools.partial(self._segment_frames, row)
        found = frames.nearest(read, self._segments(row), seconds, times.tolist())
        if not found:
            raise ValueError(f"{where} has no video frame: prepare a corpus with frames, or train without them")
        return np.stack([frames.decode(frame, size, f"a frame of {where}") for frame in found])

    def features(self, track: str, stem: str, times: np.ndarray, name: str) -> np.ndarray:
        """What a frozen network made of the frames nearest to `times` (s), float32 `[n, D]`, from its cache `name`.

        Raises:
          ValueError: if they have not been made (the message holds the command), or lack this stem.
        """
        row = self._player(track, stem)
        try:
            if name not in self._features:
                self._features[name] = features.read(self.folder, name)
            return self._features[name].at(self.split, track, row.stem, times)
        except (FileNotFoundError, KeyError):
            raise ValueError(
                f"{self.folder} has no features '{name}' of '{row.stem}' in '{track}'. Make them with:\n"
                f"  python -m qsep_jax.frame_features --model RUN --root {self.folder.parents[1]} "
                f"--corpus {self.metadata.name} --name {name} --sample-rate {self.sample_rate}"
            ) from None

    def _player(self, track: str, stem: str) -> Row:
        """The stored stem whose player is seen: of a pitch-shifted variant the stem that it was made from."""
        row = self._parts[stem][track][0]
        return self._rows[track, row.parent] if "@" in row.stem else row

    def _segment_frames(self, row: Row, segment: int) -> tuple[list[bytes], float]:
        fields = records.fields(self._records[row.first + segment])
        rate = np.frombuffer(fields.get("frame_rate", b""), np.float32)
        return frames.unpack(fields.get("frames", b"")), float(rate.sum())

    def _segments(self, row: Row) -> int:
        return -(-row.samples // self.metadata.segment_samples)

    @functools.cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        return {stem: tuple(tracks) for stem, tracks in self._parts.items()}

    @functools.cached_property
    def _records(self) -> records.Records:
        processes.keep_freed_memory()
        source = records.Records(shards(self.folder, self.metadata.name, self.split))
        promised = sum(self._segments(row) for row in self.metadata.index[self.split])
        if len(source) != promised:
            raise ValueError(f"{self.folder} holds {len(source)} of {promised} records: prepare the corpus again")
        return source

    def __getstate__(self):
        kept = {key: value for key, value in self.__dict__.items() if key != "_records"}
        return kept | {"_notes": {}, "_features": {}}


def _to_float(audio: np.ndarray, gain: float, out: np.ndarray) -> np.ndarray:
    """Int16 `[T, C]` to float32 −1…1 times `gain` in `out` `[T, channels]`: all channels, their mean, or one copied.

    Overwrites `audio`. Full scale is a power of two, so dividing by it with the gain rounds as if it came first.
    """
    stored, channels = audio.shape[1], out.shape[1]
    if channels == 1 < stored:
        gain /= stored
    if channels == 1 and stored == 2:  # both samples of a frame as one integer: `sum` takes twenty times as long
        frames = audio.view("<i4")
        right = frames >> 16
        frames <<= 16
        frames >>= 16
        frames += right
        np.copyto(out, frames)
    elif channels == 1 < stored:
        np.sum(audio, axis=1, keepdims=True, dtype=np.float32, out=out)
    else:
        np.copyto(out, audio)
    out *= np.float32(gain) / np.float32(FULL_SCALE)
    return out


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
    """One split of the corpus `name` as it was prepared at `sample_rate`.

    Args:
      view: stems to see; by default all that are not part of another one.
      channels: 1 mixes down; by default what is stored.
      first, tracks: so many tracks of the split, from this one on in the order in which they are stored; 0 tracks: all
        the rest.

    Raises:
      ValueError: if this copy is missing (the message holds the command that prepares it) or damaged, has no such
        split, too few tracks, or lacks a stem of the view.
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
        raise ValueError(f"the corpus '{name}' has no {split} split; it has {', '.join(metadata.index)}")
    only = None
    if first or tracks:
        names = list(dict.fromkeys(row.track for row in rows))
        only = names[first : first + tracks if tracks else None]
        if len(only) < max(tracks, 1):
            asked = f"{tracks or 'the'} tracks from number {first} on"
            raise ValueError(f"the corpus '{name}' has {len(names)} tracks in its {split} split, too few for {asked}")
        rows = [row for row in rows if row.track in set(only)]
    view = view or {row.stem: (row.stem,) for row in sorted(rows, key=lambda row: row.stem) if not row.parent}
    known = {row.stem for row in rows}
    for stem, stored in view.items():
        if not known.intersection(stored):
            raise ValueError(
                f"the corpus '{name}' has no '{stem}' in its {split} split; it has {', '.join(sorted(known))}"
            )
    return Corpus(folder, metadata, split, view, channels or metadata.channels, only)


def prepare_command(root: Path | str, name: str, sample_rate: int) -> str:
    """The command that prepares a corpus, with a place to fill in where it needs a source."""
    kind, options = (BUILT_IN | NAMED_CORPORA).get(name, (name, {"source": "DIR"}))
    named = {"name": name, **options} if kind != name else options
    words = [_option(option, value) for option, value in named.items()]
    return " ".join(["python -m data_pipelines.prepare", kind, *words, f"--out {root} --sample-rate {sample_rate}"])


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
