"""`solos`: solo performances from YouTube (Montesinos et al. 2020), in the layout of the authors.

    wav11k/DoubleBass/VIDEO.wav             the audio, at 11,025 Hz or any other sample rate
    frames/DoubleBass/VIDEO/0001.jpg …      the frames, 25 per second, numbered from 1

Not every part of a video shows a performance. The published JSON file lists ranges [start, end] of each video, in
frames counted from 0, by class and video. Each range is a track, named `VIDEO`, `VIDEO_2` and so on, whose time begins
with the range. A video with an empty list is left out. The files of each class are sorted by name: the first 80 % form
the training split and the others the validation split, as in Slizovskaia et al. 2021. There is no test split.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_pipelines.audio.listing import entries, track_folders
from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.samples import fit_channels, resample, to_int16
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.files import read_json
from data_pipelines.schema import INSTRUMENTS
from data_pipelines.video import frames

# Frames per second in the published layout.
VIDEO_RATE = 25
TRAIN_SHARE = 0.8
# Seconds by which a range may exceed the audio, since copies of the same video differ by a few frames.
SLACK = 1.0

# First frame and the one after the last, counted from 0; an end of −1 is the end of the video.
Range = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Video:
    """A video of the corpus: its audio file, its folder of frames, and the ranges that show a performance."""

    name: str
    instrument: str
    split: str
    audio: Path
    frames: Path
    ranges: tuple[Range, ...]


@dataclasses.dataclass
class _Problems:
    """The videos `CLASS/VIDEO` that lack something, so that one message can name all of them."""

    without_frames: list[str] = dataclasses.field(default_factory=list)
    without_ranges: list[str] = dataclasses.field(default_factory=list)

    def check(self, source: Path, ranges: Path | None) -> None:
        """Raise ValueError if there is a problem."""
        lines = []
        if names := self.without_frames:
            lines.append(
                f"{source} lacks the frames, frames/CLASS/VIDEO/0001.jpg and so on, of these videos ({len(names)}): "
                f"{', '.join(names)}; extract them, or give --frame-rate 0 if no system needs video"
            )
        if names := self.without_ranges:
            lines.append(
                f"{ranges} lacks the ranges of these videos ({len(names)}): {', '.join(names)}; add them (an empty "
                "list leaves a video out)"
            )
        if lines:
            raise ValueError(". ".join(lines))


@dataclasses.dataclass(frozen=True)
class Solos(CorpusBuilder):
    """Solos, with a track for each range of a video that shows one of 13 instruments being played.

    Attributes:
      source: Folder that holds `wav11k` and `frames`.
      ranges: Published JSON file with the ranges of frames of each video; without it, complete videos are used.
      frame_rate: Video frames per second to store, at most 25; 0 stores none and needs none, which is enough for
        systems that are not conditioned on video.
      frame_size: Height and width in pixels to which frames are resized; 0 keeps their size.
    """

    kind: ClassVar[str] = "solos"
    version: ClassVar[int] = 1

    source: Path
    ranges: Path | None = None
    frame_rate: float = 5.0
    frame_size: int = 0

    def inputs(self) -> list[str]:
        # There are millions of frames. The modification time of their folder can be read fast and shows when a frame
        # was added or removed, but not when one was overwritten; that takes `prepare --overwrite`.
        videos = self._videos()
        lists = [self.ranges] if self.ranges else []
        folders = [video.frames for video in videos] if self.frame_rate else []
        return [
            *file_inputs(self.source, [video.audio for video in videos]),
            *(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in lists),
            *(f"{path.relative_to(self.source)} {path.stat().st_mtime_ns}" for path in folders),
        ]

    def sample_rate(self) -> int:
        return min(AudioFile(self._videos()[0].audio).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        tracks = []
        for video in self._videos():
            for number, limits in enumerate(video.ranges, start=1):
                name = video.name if number == 1 else f"{video.name}_{number}"
                tracks.append(Track(name, video.split, (video, limits)))
        return sorted(tracks, key=lambda track: track.split != "train")

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        video, (start, end) = track.source
        audio, rate = read_audio(video.audio)
        first, last = (round(number * rate / VIDEO_RATE) for number in (start, end))
        if end >= 0 and last > len(audio) + SLACK * rate:
            raise ValueError(
                f"the range [{start}, {end}] of {video.name} in {self.ranges} goes beyond {video.audio}, "
                f"which is {len(audio) / rate:.2f} s or {len(audio) * VIDEO_RATE // rate} frames long"
            )
        audio = audio[first : len(audio) if end < 0 else last]
        if not len(audio):
            raise ValueError(f"the range [{start}, {end}] of {video.name} in {self.ranges} holds no audio")
        samples = to_int16(resample(fit_channels(audio, 1), rate, sample_rate))
        jpegs = self._read_frames(video, start, len(audio) / rate) if self.frame_rate else ()
        return [Stem(video.instrument, samples, frames=jpegs, frame_rate=self.frame_rate if jpegs else 0.0)]

    def _read_frames(self, video: _Video, start: int, seconds: float) -> tuple[bytes, ...]:
        """The JPEGs of a video from frame `start` on, for `seconds`, at `frame_rate` per second."""
        names = {path.name for path in video.frames.iterdir()}
        last = max((int(name.removesuffix(".jpg")) for name in names if re.fullmatch(r"\d+\.jpg", name)), default=0)
        jpegs = []
        for time in np.arange(frames.first_frame_at(seconds, self.frame_rate)) / self.frame_rate:
            number = start + round(time * VIDEO_RATE) + 1
            if number > last:
                break
            path = video.frames / f"{number:04d}.jpg"
            if path.name not in names:
                raise ValueError(f"{path} is missing, although there are later frames: fetch the frames again")
            jpeg = path.read_bytes()
            frames.check(jpeg, str(path))
            if self.frame_size:
                jpeg = frames.encode(frames.decode(jpeg, self.frame_size, str(path)))
            jpegs.append(jpeg)
        if not jpegs:
            raise ValueError(f"{video.frames} holds {last} frames, none from {start + 1:04d}.jpg on")
        return tuple(jpegs)

    def _videos(self) -> list[_Video]:
        """All videos that have a range, class by class."""
        if not 0 <= self.frame_rate <= VIDEO_RATE or self.frame_size < 0:
            raise ValueError(
                f"--frame-rate {self.frame_rate:g} must be from 0 to {VIDEO_RATE}, and --frame-size {self.frame_size} "
                "must not be negative"
            )
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        ranges = _read_ranges(self.ranges) if self.ranges else None
        classes, problems = track_folders(self.source / "wav11k"), _Problems()
        videos = []
        for folder in classes:
            instrument, files = _instrument(folder), entries(folder, "*.wav")
            for index, path in enumerate(files):
                split = "train" if index < max(int(TRAIN_SHARE * len(files)), 1) else "validation"
                jpegs = self.source / "frames" / folder.name / path.stem
                if self.frame_rate and not (jpegs.is_dir() and any(jpegs.glob("*.jpg"))):
                    problems.without_frames.append(f"{folder.name}/{path.stem}")
                limits = ((0, -1),) if ranges is None else _ranges_of(ranges, folder.name, path.stem, self.ranges)
                if limits is None:
                    problems.without_ranges.append(f"{folder.name}/{path.stem}")
                    continue
                videos.append(_Video(path.stem, instrument, split, path, jpegs, limits))
        problems.check(self.source, self.ranges)
        if not videos:
            raise ValueError(f"{self.source} holds no wav11k/CLASS/VIDEO.wav: give the folder of wav11k and frames")
        return videos


def _instrument(folder: Path) -> str:
    """The instrument of a class: `double_bass` for the folder `DoubleBass`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", folder.name).lower()
    if name not in INSTRUMENTS:
        known = ", ".join(name.title().replace("_", "") for name in INSTRUMENTS)
        raise ValueError(f"{folder}: '{folder.name}' is not a class of Solos; rename it to one of {known}")
    return name


def _read_ranges(path: Path) -> dict[str, Any]:
    content = read_json(path, "give the published JSON file of ranges")
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold ranges as {{class: {{video: [[start, end], …]}}}}")
    return content


def _ranges_of(ranges: dict[str, Any], instrument: str, video: str, path: Path | None) -> tuple[Range, ...] | None:
    """The ranges of a video, which are listed under its class, or under its name if the file has no classes.

    None if the video is not listed.
    """
    by_video = ranges.get(instrument, ranges)
    if not isinstance(by_video, dict) or video not in by_video:
        return None
    limits = by_video[video]
    for pair in limits if isinstance(limits, list) else [limits]:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
        if not is_pair or not 0 <= pair[0] < pair[1]:
            raise ValueError(
                f"{path}: a range of {video} must be [start, end] in frames counted from 0, not {json.dumps(pair)}"
            )
    return tuple((start, end) for start, end in limits)
