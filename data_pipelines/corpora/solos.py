"""`solos`: people who play alone, from YouTube (Montesinos et al. 2020), as the authors lay the videos out.

    wav11k/DoubleBass/VIDEO.wav             the sound, at 11,025 Hz or any other rate
    frames/DoubleBass/VIDEO/0001.jpg …      the pictures, 25 a second, numbered from 1

Only parts of a video may show somebody play: the published JSON has a list of ranges [start, end] for each, counted in
pictures from 0, by class and video. Each range is a track, `VIDEO`, `VIDEO_2` and so on, whose time begins with it; a
video with an empty list is left out. Of the files of a class in order of their names the first 80 % are for training,
the others for validation, as in Slizovskaia et al. 2021; none are for testing.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_pipelines.audio.reading import AudioFile, fit_channels, read_audio, resample, to_int16
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import HIGHEST_STORED_RATE, file_inputs
from data_pipelines.schema import INSTRUMENTS
from data_pipelines.video import frames

# Pictures a second of the published layout.
VIDEO_RATE = 25
TRAIN_SHARE = 0.8
# Seconds by which a range may pass the end of the sound: copies of one video differ by a few pictures.
SLACK = 1.0

# First picture and the one behind the last, from 0; an end of −1 is the end of the video.
Range = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Video:
    """A video of the corpus: one file of sound, one folder of pictures, and the ranges in which somebody plays."""

    name: str
    instrument: str
    split: str
    audio: Path
    pictures: Path
    ranges: tuple[Range, ...]


@dataclasses.dataclass(frozen=True)
class Solos(CorpusBuilder):
    """Solos, a track for each range of a video in which one of 13 instruments is played and seen.

    Attributes:
      source: the folder that holds `wav11k` and `frames`.
      ranges: the published JSON of ranges of pictures; without it videos are taken from beginning to end.
      frame_rate: pictures a second to store, at most 25; 0 for none.
      frame_size: height and width that they are stretched to; 0 leaves them as they are.
    """

    kind: ClassVar[str] = "solos"
    version: ClassVar[int] = 1

    source: Path
    ranges: Path | None = None
    frame_rate: float = 5.0
    frame_size: int = 0

    def inputs(self) -> list[str]:
        # There are millions of pictures: a folder says when one was added or removed, which is quick to ask.
        videos = self._videos()
        lists = [self.ranges] if self.ranges else []
        folders = [video.pictures for video in videos] if self.frame_rate else []
        return [
            *file_inputs(self.source, [video.audio for video in videos]),
            *(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in lists),
            *(f"{path.relative_to(self.source)} {path.stat().st_mtime_ns}" for path in folders),
        ]

    def sample_rate(self) -> int:
        return min(AudioFile(self._videos()[0].audio).sample_rate, HIGHEST_STORED_RATE)

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        found = []
        for video in self._videos():
            for number, part in enumerate(video.ranges, start=1):
                name = video.name if number == 1 else f"{video.name}_{number}"
                found.append(Track(name, video.split, (video, part)))
        return sorted(found, key=lambda track: track.split != "train")

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        video, (start, end) = track.source
        audio, rate = read_audio(video.audio)
        first, last = (round(number * rate / VIDEO_RATE) for number in (start, end))
        if end >= 0 and last > len(audio) + SLACK * rate:
            raise ValueError(
                f"the range [{start}, {end}] of {video.name} in {self.ranges} goes beyond {video.audio}, "
                f"{len(audio) / rate:.2f} s or {len(audio) * VIDEO_RATE // rate} pictures long"
            )
        audio = audio[first : len(audio) if end < 0 else last]
        if not len(audio):
            raise ValueError(f"the range [{start}, {end}] of {video.name} in {self.ranges} holds no sound")
        sound = to_int16(resample(fit_channels(audio, 1), rate, sample_rate))
        seen = self._pictures(video, start, len(audio) / rate) if self.frame_rate else ()
        return [Stem(video.instrument, sound, frames=seen, frame_rate=self.frame_rate if seen else 0.0)]

    def _pictures(self, video: _Video, start: int, seconds: float) -> tuple[bytes, ...]:
        """The JPEGs of a video from picture `start` on, `frame_rate` a second."""
        there = {path.name for path in video.pictures.iterdir()}
        last = max((int(name.removesuffix(".jpg")) for name in there if re.fullmatch(r"\d+\.jpg", name)), default=0)
        found = []
        for time in np.arange(frames.first_frame_at(seconds, self.frame_rate)) / self.frame_rate:
            number = start + round(time * VIDEO_RATE) + 1
            if number > last:
                break
            path = video.pictures / f"{number:04d}.jpg"
            if path.name not in there:
                raise ValueError(f"{path} is missing, though there are later ones: fetch the frames again")
            picture = path.read_bytes()
            frames.check(picture, str(path))
            if self.frame_size:
                picture = frames.encode(frames.decode(picture, self.frame_size, str(path)))
            found.append(picture)
        if not found:
            raise ValueError(f"{video.pictures} holds {last} frames, none from {start + 1:04d}.jpg on")
        return tuple(found)

    def _videos(self) -> list[_Video]:
        """All videos of which something is taken, class by class."""
        if not 0 <= self.frame_rate <= VIDEO_RATE or self.frame_size < 0:
            raise ValueError(
                f"--frame-rate {self.frame_rate:g} is from 0 to {VIDEO_RATE}, --frame-size {self.frame_size} from 0 on"
            )
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        ranges = _read_ranges(self.ranges) if self.ranges else None
        classes = [path for path in sorted((self.source / "wav11k").glob("*")) if path.is_dir()]
        found = []
        for folder in classes:
            instrument, files = _instrument(folder), sorted(folder.glob("*.wav"))
            for place, path in enumerate(files):
                split = "train" if place < max(int(TRAIN_SHARE * len(files)), 1) else "validation"
                pictures = self.source / "frames" / folder.name / path.stem
                if self.frame_rate and not (pictures.is_dir() and any(pictures.glob("*.jpg"))):
                    raise ValueError(f"{path} has no video frame: {pictures}/0001.jpg and so on are missing")
                parts = ((0, -1),) if ranges is None else _ranges_of(ranges, folder.name, path.stem, self.ranges)
                found.append(_Video(path.stem, instrument, split, path, pictures, parts))
        if not found:
            raise ValueError(f"{self.source} holds no wav11k/CLASS/VIDEO.wav: give the folder of wav11k and frames")
        return found


def _instrument(folder: Path) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", folder.name).lower()
    if name not in INSTRUMENTS:
        known = ", ".join(name.title().replace("_", "") for name in INSTRUMENTS)
        raise ValueError(f"{folder}: '{folder.name}' is no class of Solos; rename it to one of {known}")
    return name


def _read_ranges(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold ranges as {{class: {{video: [[start, end], …]}}}}")
    return content


def _ranges_of(ranges: dict[str, Any], instrument: str, video: str, path: Path | None) -> tuple[Range, ...]:
    """The ranges of a video, listed under its class or by itself."""
    listed = ranges.get(instrument, ranges)
    if not isinstance(listed, dict) or video not in listed:
        raise ValueError(f"{path} has no ranges of {instrument}/{video}: add them; an empty list leaves the video out")
    parts = listed[video]
    for part in parts if isinstance(parts, list) else [parts]:
        whole = isinstance(part, list) and len(part) == 2 and all(type(number) is int for number in part)
        if not whole or not 0 <= part[0] < part[1]:
            raise ValueError(f"{path}: a range of {video} is [start, end], pictures from 0 on, not {json.dumps(part)}")
    return tuple((start, end) for start, end in parts)
