"""`urmp`: the University of Rochester multi-modal music performance corpus (Li et al. 2019), in its published layout.

    01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav   one player alone, 48 kHz mono
    01_Jupiter_vn_vc/Notes_1_vn_01_Jupiter.txt   the notes of this player: onset s, frequency Hz, duration s

Mixtures and scores are not read, and videos only if frames are requested. A track is one player, since two players of
the same instrument are two sources. It has the name of its file and one stem, the instrument. With `merged`, a track is
a piece, and the players of the same instrument are summed. In the published copy, the trombone of piece 15 is misnamed
`tbt` instead of `tbn`; it is read as a trombone.

The splits are those of Lin et al. 2021: songs in which any of `schema.UNSEEN_INSTRUMENTS` plays, in any arrangement,
are used for testing, and all others for training. The split is by song and not by piece, because the test pairs of the
authors use tracks of 32_Fugue, 36_Rondeau and 37_Rondeau. None of the unseen instruments plays in these pieces, but
they play in other arrangements of the same songs. The training lists of the authors name 55 of the 68 tracks that
remain for training; `--tracks published` prepares these alone. `urmp_lin2021` has both lists, of training tracks and of
test pairs with queries.

Slizovskaia et al. 2021 test on all merged pieces except those in which a single instrument plays twice. Frames of a
player come from `Vid_01_Jupiter_vn_vc.mp4`, cropped to the box of the player; merged players have the frames of the
first one.
"""

import dataclasses
import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data_pipelines.audio.listing import entries, track_folders
from data_pipelines.audio.reading import read_audio
from data_pipelines.audio.samples import fit_channels, fit_length, resample, to_int16
from data_pipelines.corpora import pitch_shift
from data_pipelines.corpora.base import CorpusBuilder, OrderedMap, Stem, Track
from data_pipelines.corpora.folder import file_inputs
from data_pipelines.corpora.urmp_lin2021 import published_train_tracks
from data_pipelines.corpora.urmp_video import Boxes, Strip, find_box, find_video, player_frames
from data_pipelines.schema import UNSEEN_INSTRUMENTS
from data_pipelines.video.files import Box, read_boxes

TAGS = {
    "bn": "bassoon",
    "cl": "clarinet",
    "db": "double_bass",
    "fl": "flute",
    "hn": "horn",
    "ob": "oboe",
    "sax": "saxophone",
    "tba": "tuba",
    "tbn": "trombone",
    "tpt": "trumpet",
    "va": "viola",
    "vc": "cello",
    "vn": "violin",
}
MISNAMED = {"tbt": "tbn"}
# Songs of the 44 pieces with an unseen instrument in at least one arrangement. The list makes the split correct also
# where only a part of the corpus is present.
TEST_SONGS = frozenset(
    (
        "Arioso",
        "Chorale",
        "Elise",
        "Fugue",
        "Jerusalem",
        "Maria",
        "Miserere",
        "Rejouissance",
        "Rondeau",
        "Slavonic",
    )
)
PIECE = re.compile(r"\d+_([^_]+)((?:_[a-z]+)+)")
AUDIO = re.compile(r"AuSep_(\d+)_([a-z]+)_(\d+_[^_]+)\.wav")


@dataclasses.dataclass(frozen=True)
class Player:
    """One player of a piece: the published name of the track, the instrument, and the files of audio and notes."""

    name: str
    instrument: str
    audio: Path
    notes: Path


@dataclasses.dataclass(frozen=True)
class Urmp(CorpusBuilder):
    """URMP, with a track for each player and the split of Lin et al. 2021.

    Attributes:
      source: Folder that holds the pieces, 01_Jupiter_vn_vc and so on.
      shifts: Largest shift in semitones, up and down, of the pitch-shifted variants of the training stems.
      merged: Make each piece a track, with one stem for all players of an instrument.
      split: `lin2021`, or `test` to put all pieces into the test split. The latter, with `merged`, leaves out pieces
        with a single instrument, as in Slizovskaia et al. 2021.
      frame_rate: Video frames per second to store; 0 stores none.
      frame_size: Height and width in pixels to which frames are resized; 0 keeps their size.
      boxes: JSON file with the position of each player, {piece: {track or instrument: [x, y, width, height]}} in pixels
        of the video. By default the players have equally wide vertical strips, in the order of their numbers.
      training_tracks: `all` tracks of the training split, or the 55 `published` ones of Lin et al. 2021; `--tracks` on
        the command line.
    """

    kind: ClassVar[str] = "urmp"
    version: ClassVar[int] = 1

    source: Path
    shifts: int = 4
    merged: bool = False
    split: Literal["lin2021", "test"] = dataclasses.field(default="lin2021", metadata={"added": True})
    frame_rate: float = dataclasses.field(default=0.0, metadata={"added": True})
    frame_size: int = dataclasses.field(default=224, metadata={"added": True})
    boxes: Path | None = dataclasses.field(default=None, metadata={"added": True})
    training_tracks: Literal["all", "published"] = dataclasses.field(default="all", metadata={"added": True})

    def inputs(self) -> list[str]:
        pieces = self._pieces()
        players = [player for _, members in pieces for player in members]
        files = [path for player in players for path in (player.audio, player.notes)]
        video_inputs = self._video_inputs(pieces) if self.frame_rate else []
        return [*file_inputs(self.source, files), *pitch_shift.inputs(self.shifts), *video_inputs]

    def _video_inputs(self, pieces: list[tuple[str, tuple[Player, ...]]]) -> list[str]:
        if self.frame_rate < 0 or self.frame_size < 0:
            raise ValueError(
                f"--frame-rate {self.frame_rate:g} and --frame-size {self.frame_size} must not be negative"
            )
        videos = [find_video(self.source / piece) for piece, _ in pieces]
        if self.boxes is None:
            return file_inputs(self.source, videos)
        boxes = read_boxes(self.boxes)
        for _, players in pieces:
            for track in [players] if self.merged else [(player,) for player in players]:
                _boxes_of(boxes, track, players)
        status = self.boxes.stat()
        return [*file_inputs(self.source, videos), f"{self.boxes.name} {status.st_size} {status.st_mtime_ns}"]

    def sample_rate(self) -> int:
        return 44_100

    def tracks(self, ordered_map: OrderedMap) -> list[Track]:
        tracks = []
        for piece, players in self._pieces():
            split = "test" if self.split == "test" else split_of(piece)
            if self.merged:
                tracks.append(Track(piece, split, players))
            else:
                tracks += [Track(player.name, split, (player,)) for player in players]
        if self.training_tracks == "published":
            tracks = self._published(tracks)
        return sorted(tracks, key=lambda track: track.split != "train")

    def _published(self, tracks: list[Track]) -> list[Track]:
        """The tracks without those of the training split that the authors' lists do not name."""
        if self.merged or self.split == "test":
            raise ValueError("--tracks published names players of the training split: leave out --merged and --split")
        published = published_train_tracks()
        if missing := sorted(published.keys() - {track.name for track in tracks}):
            raise ValueError(
                f"{self.source} lacks {len(missing)} of the {len(published)} published training tracks, first "
                f"{missing[0]}: fetch the whole corpus, or leave out --tracks published"
            )
        return [track for track in tracks if track.split != "train" or track.name in published]

    def load(self, track: Track, sample_rate: int) -> list[Stem]:
        players: tuple[Player, ...] = track.source
        originals = {player: read_audio(player.audio) for player in players}
        audio = {player: _mono(*original, sample_rate) for player, original in originals.items()}
        length = max(len(samples) for samples in audio.values())
        largest_shift = self.shifts if track.split == "train" else 0
        stems, variants = [], []
        for instrument in dict.fromkeys(player.instrument for player in players):
            members = [player for player in players if player.instrument == instrument]
            total = np.sum([fit_length(audio[player], length) for player in members], axis=0)
            notes = np.concatenate([read_notes(player.notes) for player in members])
            notes = notes[np.argsort(notes[:, 0], kind="stable")]
            stem = Stem(instrument, to_int16(total), notes=notes)
            stems.append(stem)
            if largest_shift:
                original, rate = _sum([originals[player] for player in members])
                variants += pitch_shift.shifted(stem, original, rate, largest_shift, sample_rate)
        if self.frame_rate:
            stems = self._with_frames(stems, players, length / sample_rate)
        return stems + variants

    def _with_frames(self, stems: list[Stem], players: tuple[Player, ...], seconds: float) -> list[Stem]:
        """The stems with the frames of their players from the video of the piece."""
        folder = players[0].audio.parent
        boxes = _boxes_of(read_boxes(self.boxes) if self.boxes else None, players, _players(folder))
        jpegs = player_frames(find_video(folder), boxes, seconds, self.frame_rate, self.frame_size)
        return [
            dataclasses.replace(stem, frames=tuple(stem_jpegs), frame_rate=self.frame_rate)
            for stem, stem_jpegs in zip(stems, jpegs.values(), strict=True)
        ]

    def _pieces(self) -> list[tuple[str, tuple[Player, ...]]]:
        """The name and the players of each piece, in order."""
        if not self.source.is_dir():
            raise ValueError(f"{self.source}: no such folder")
        folders = [folder for folder in track_folders(self.source) if PIECE.fullmatch(folder.name)]
        if not folders:
            raise ValueError(
                f"{self.source} holds no piece of URMP, such as 01_Jupiter_vn_vc: give the folder that holds the pieces"
            )
        pieces = [(folder.name, _players(folder)) for folder in folders]
        if self.merged and self.split == "test":
            pieces = [piece for piece in pieces if len({player.instrument for player in piece[1]}) > 1]
        return pieces


def _players(folder: Path) -> tuple[Player, ...]:
    """The players of a piece, in the order of their numbers."""
    files, players, expected = entries(folder, "AuSep_*.wav"), {}, len(_tags(folder.name))
    if len(files) != expected:
        raise ValueError(
            f"{folder} holds {len(files)} files AuSep_*.wav, but the piece has {expected} players: "
            "fetch the piece again"
        )
    for path in files:
        if not (parts := AUDIO.fullmatch(path.name)):
            raise ValueError(f"{path} is not named as in URMP, AuSep_1_vn_01_Jupiter.wav: restore its name")
        number, tag, piece = int(parts[1]), MISNAMED.get(parts[2], parts[2]), parts[3]
        instrument = _instrument(tag, path)
        # The number identifies the file, since a user may have renamed one of the two misnamed files.
        notes = entries(folder, f"Notes_{number}_*.txt")
        if len(notes) != 1:
            present = ", ".join(note.name for note in notes) or "none"
            raise ValueError(f"{path} needs one Notes_{number}_{tag}_{piece}.txt beside it; present: {present}")
        players[number] = Player(f"AuSep_{number}_{tag}_{piece}", instrument, path, notes[0])
    return tuple(players[number] for number in sorted(players))


def _boxes_of(
    boxes: Boxes | None, track: tuple[Player, ...], players: tuple[Player, ...]
) -> dict[str, Box] | dict[str, Strip]:
    """The box of the first player of each instrument of a track, by the name of the player.

    Args:
      boxes: boxes of the pieces; None for strips.
      track: players of the track.
      players: all players of the piece.
    """
    firsts = {player.instrument: player for player in reversed(track)}
    piece, shown = players[0].audio.parent.name, [player for player in track if firsts[player.instrument] is player]
    if boxes is None:
        return {player.name: Strip(players.index(player), len(players)) for player in shown}
    return {player.name: find_box(boxes, piece, player, players) for player in shown}


def _tags(piece: str) -> list[str]:
    """The tags of the instruments in the name of a piece."""
    parts = PIECE.fullmatch(piece)
    if not parts:
        raise ValueError(f"'{piece}' is not the name of a piece of URMP, such as 01_Jupiter_vn_vc")
    return parts[2].strip("_").split("_")


def _instrument(tag: str, where: Path | str) -> str:
    """The instrument of a tag; `where` names its file or piece in the error message."""
    tag = MISNAMED.get(tag, tag)
    if tag not in TAGS:
        raise ValueError(f"{where}: '{tag}' is not an instrument of URMP; rename it to one of {', '.join(TAGS)}")
    return TAGS[tag]


def split_of(piece: str) -> str:
    """The split of a piece, from its name `01_Jupiter_vn_vc`: `test` for songs in which an unseen instrument plays.

    Raises:
      ValueError: if the name has another form or an unknown instrument.
    """
    instruments = {_instrument(tag, piece) for tag in _tags(piece)}
    song = piece.split("_")[1]
    return "test" if song in TEST_SONGS or instruments.intersection(UNSEEN_INSTRUMENTS) else "train"


def _mono(audio: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    return resample(fit_channels(audio, 1), rate, sample_rate)


def _sum(originals: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """The mono sum of files, each with its sample rate in Hz, at the highest of their rates, and that rate."""
    highest = max(rate for _, rate in originals)
    audio = [_mono(samples, rate, highest) for samples, rate in originals]
    length = max(len(samples) for samples in audio)
    return np.sum([fit_length(samples, length) for samples in audio], axis=0), highest


def read_notes(path: Path) -> np.ndarray:
    """Read notes from lines of onset (s), frequency (Hz) and duration (s).

    Returns:
      Rows of onset (s), offset (s) and MIDI pitch, rounded to semitones, `[n, 3]`.

    Raises:
      ValueError: if a line is not a valid note, or the file holds no notes.
    """
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            onset, frequency, duration = (float(word) for word in line.split())
        except ValueError:
            onset = frequency = duration = np.nan
        # Each of these comparisons is false for NaN.
        if not (0 <= onset < np.inf and 0 < frequency < np.inf and 0 <= duration < np.inf):
            raise ValueError(
                f"{path}, line {number}: '{line}' is not onset in s, frequency in Hz and duration in s: repair the line"
            )
        rows.append((onset, onset + duration, np.rint(69.0 + 12.0 * np.log2(frequency / 440.0))))
    if not rows:
        raise ValueError(f"{path} holds no notes: fetch the file again")
    return np.array(rows, np.float32)
