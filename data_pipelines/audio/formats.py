"""Which container a file is, by its first bytes and never by its extension, and which decoder reads it."""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from data_pipelines.audio import lengths, mpeg
from data_pipelines.audio.lengths import Length


@dataclasses.dataclass(frozen=True)
class Format:
    """A container.

    Attributes:
      name: What error messages call it.
      demuxer: FFmpeg's name of the format.
      sndfile: Whether libsndfile reads it. FFmpeg then gets what libsndfile cannot decode, such as AAC in CAF.
      length: Compares the length that its header states with the file; None if it states none.
    """

    name: str
    demuxer: str
    sndfile: bool = False
    length: Callable[[BinaryIO, int], Length] | None = None


FLAC = Format("FLAC", "flac", True)
OGG = Format("Ogg", "ogg", True)
MP3 = Format("MP3", "mp3")
_MP4 = Format("MP4", "mov,mp4,m4a,3gp,3g2,mj2", length=lengths.mp4)
# The bytes at a position that identify a container. The first entry that fits counts.
_SIGNATURES: tuple[tuple[int, tuple[bytes, ...], Format], ...] = (
    (8, (b"AVI ",), Format("AVI", "avi", length=lengths.avi)),
    (0, (b"RIFF", b"RF64", b"BW64", b"RIFX"), Format("WAV", "wav", True, lengths.riff)),
    (0, (bytes.fromhex("726966662e91cf11"),), Format("Wave64", "w64", True, lengths.w64)),
    (8, (b"AIFF", b"AIFC"), Format("AIFF", "aiff", True, lengths.aiff)),
    (0, (b"caff",), Format("CAF", "caf", True, lengths.caf)),
    (0, (b".snd", b"dns."), Format("AU", "au", True, lengths.au)),
    (0, (b"fLaC",), FLAC),
    (0, (b"OggS",), OGG),
    (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"), _MP4),
    (0, (bytes.fromhex("1a45dfa3"),), Format("Matroska", "matroska,webm", length=lengths.matroska)),
    (0, (bytes.fromhex("3026b2758e66cf11"),), Format("WMA", "asf", length=lengths.asf)),
    (0, (b"wvpk",), Format("WavPack", "wv")),
    (0, (b"MAC ",), Format("Monkey's Audio", "ape")),
    (0, (b"TTA1",), Format("TTA", "tta")),
    (0, (b"tBaK",), Format("TAK", "tak")),
    (0, (b"#!AMR",), Format("AMR", "amr")),
    (0, (b"DSD ",), Format("DSF", "dsf")),
    (0, (b"MPCK",), Format("Musepack", "mpc8")),
    (0, (b"\x0b\x77",), Format("AC-3", "ac3")),
    (0, (b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9"), Format("AAC", "aac")),
)
# Containers that only libsndfile knows, and whose headers are not checked here.
OTHERS = ("VOC", "SVX", "NIST", "IRCAM", "PVF", "PAF", "AVR")


def format_of(path: Path) -> Format | None:
    """The container of a file; None if its first bytes are of none that is known."""
    with path.open("rb") as file:
        head = file.read(16)
        tagged = head[:3] == b"ID3"
        if tagged:
            file.seek(mpeg.id3_length(head))
            head = file.read(16)
    for position, magics, container in _SIGNATURES:
        if any(head[position : position + len(magic)] == magic for magic in magics):
            return container
    return MP3 if tagged or mpeg.begins_with_frame(path) else None


def length_of(path: Path, container: Format) -> Length:
    """What the header of a file says about its length.

    Raises:
      ValueError: if the header is cut short.
    """
    if container.length is None:
        return Length()
    with path.open("rb") as file:
        try:
            return container.length(file, path.stat().st_size)
        except struct.error:
            raise ValueError(f"{path}: is truncated or damaged: its header is cut short") from None
