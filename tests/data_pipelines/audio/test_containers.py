"""Every container is read whole or refused: truncated files, lengths that streaming writers left, chains, MP3 tags."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.audio.reading import AudioFile, read_audio
from tests.audio_containers import FFMPEG, FRAMES, LOSSLESS, SIGNAL, SNDFILE, write, write_sndfile

RNG = np.random.default_rng(1)


def edited(path: Path, *edits: tuple[int, bytes]) -> Path:
    content = bytearray(path.read_bytes())
    for position, replacement in edits:
        content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    return path


def length_read(path: Path) -> int:
    """Samples per channel of a file; the number that it states must be the number that is read."""
    file = AudioFile(path)
    samples = sum(map(len, file.blocks()))
    assert file.frames == samples
    return samples


@pytest.mark.parametrize("name", [*SNDFILE, *FFMPEG])
def test_every_sample_of_every_container_is_read(name, tmp_path):
    file = AudioFile(write(tmp_path, name))
    read, rate = read_audio(file.path)
    assert (rate, read.shape[1], read.dtype) == (48_000, 2, np.float32)
    codec = (SNDFILE | FFMPEG)[name][name in SNDFILE]
    # Codecs of FFmpeg that work on blocks add silence, since their containers do not state how much.
    exact = name in SNDFILE or codec in LOSSLESS
    assert len(read) == FRAMES if exact else FRAMES <= len(read) < FRAMES + 3000
    assert len(read) == file.frames
    if codec in LOSSLESS:
        np.testing.assert_allclose(read, SIGNAL, atol=2**-15)


@pytest.mark.parametrize("name", sorted({*SNDFILE, *FFMPEG} - {"aac.aac"}))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_truncated_file_is_refused(name, share, tmp_path):
    path = write(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"truncated|damaged") as error_info:
        read_audio(path)
    assert str(path) in str(error_info.value)
    assert "\n" not in str(error_info.value)


def find(path: Path, name: bytes) -> int:
    return path.read_bytes().index(name)


def wav_with_length(path: Path, length: int) -> Path:
    write_sndfile(path, "WAV", "PCM_16")
    return edited(path, (find(path, b"data") + 4, struct.pack("<I", length)))


def wide_without_length(path: Path, length: int) -> Path:
    write_sndfile(path, "RF64", "PCM_24")
    return edited(path, (find(path, b"ds64") + 8, struct.pack("<QQQ", length, length, length)))


def aiff_with_length(path: Path, length: int) -> Path:
    write_sndfile(path, "AIFF", "PCM_16")
    states_frames = (find(path, b"COMM") + 10, struct.pack(">I", length // 4))
    return edited(path, (find(path, b"SSND") + 4, struct.pack(">I", length)), states_frames)


def au_with_length(path: Path, length: int) -> Path:
    return edited(write_sndfile(path, "AU", "PCM_16"), (8, struct.pack(">I", length)))


def caf_with_length(path: Path, length: int) -> Path:
    write_sndfile(path, "CAF", "PCM_24")
    return edited(path, (find(path, b"data") + 4, struct.pack(">Q", length)))


def w64_with_length(path: Path, length: int) -> Path:
    write_sndfile(path, "W64", "PCM_24")
    return edited(path, (find(path, b"data") + 16, struct.pack("<Q", length)))


SHORT = (0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFF024)
STREAMED = [
    *((wav_with_length, length) for length in SHORT),
    *((aiff_with_length, length) for length in (*SHORT, 0x7F000008)),
    *((au_with_length, length) for length in SHORT),
    *((wide_without_length, length) for length in (0, 2**64 - 1)),
    *((caf_with_length, length) for length in (0, 2**64 - 1)),
    *((w64_with_length, length) for length in (0, 24, 2**63 - 1)),
]


@pytest.mark.parametrize(
    ("write_with", "length"), STREAMED, ids=lambda value: f"{value:x}" if isinstance(value, int) else value.__name__
)
def test_a_length_that_a_streaming_writer_left_is_read_to_the_end(write_with, length, tmp_path):
    assert length_read(write_with(tmp_path / "streamed", length)) == FRAMES


def test_a_flac_file_of_unknown_length_is_read_to_the_end(tmp_path):
    path = write(tmp_path, "free.flac")
    edited(path, (21, bytes([path.read_bytes()[21] & 0xF0])), (22, bytes(4)))
    assert length_read(path) == FRAMES


def test_an_empty_data_chunk_before_another_chunk_holds_no_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", SIGNAL[:0], 48_000)
    content = (tmp_path / "none.wav").read_bytes()
    (tmp_path / "none.wav").write_bytes(content + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(ValueError, match="holds no samples"):
        AudioFile(tmp_path / "none.wav")


@pytest.mark.parametrize("before", [b"JUNK", b"bext", b"LIST", b"iXML"])
def test_truncation_is_noticed_behind_any_chunk(before, tmp_path):
    path = write(tmp_path, "pcm.wav")
    content = path.read_bytes()
    whole = content[:12] + before + struct.pack("<I", 393_000) + bytes(393_000) + content[12:]
    path.write_bytes(whole)
    assert length_read(path) == FRAMES
    path.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match="is truncated"):
        AudioFile(path)


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.opus"])
def test_all_links_of_a_chained_file_are_read(name, tmp_path):
    path = write(tmp_path, name)
    one = read_audio(path)[0]
    path.write_bytes(path.read_bytes() * 3)
    np.testing.assert_array_equal(read_audio(path)[0], np.concatenate([one] * 3))
    assert AudioFile(path).frames == 3 * FRAMES


def test_links_of_different_kinds_are_refused(tmp_path):
    path = write(tmp_path, "vorbis.ogg")
    other = write_sndfile(tmp_path / "mono.ogg", "OGG", "VORBIS", SIGNAL[:, :1])
    path.write_bytes(path.read_bytes() + other.read_bytes())
    with pytest.raises(ValueError, match="parts with different sample rates or channels: split it"):
        AudioFile(path)


def test_a_damaged_or_missing_page_is_refused(tmp_path):
    path = write(tmp_path, "vorbis.ogg")
    content = path.read_bytes()
    path.write_bytes(content[:6000] + bytes([content[6000] ^ 1]) + content[6001:])
    with pytest.raises(ValueError, match="wrong checksum"):
        AudioFile(path)
    starts = [position for position in range(len(content)) if content.startswith(b"OggS", position)]
    path.write_bytes(content[: starts[2]] + content[starts[3] :])
    with pytest.raises(ValueError, match="lacks a page of audio"):
        AudioFile(path)


def without_tag(content: bytes) -> bytes:
    """MP3 without the frame of its Xing or Info tag."""
    return content[content.index(b"\xff\xfb", content.index(b"\xff\xfb") + 100) :]


MP3S: dict[str, Callable[[bytes], bytes]] = {
    "no tag": without_tag,
    "ID3v1 behind": lambda content: content + b"TAG" + bytes(125),
    "ID3v2 in front": lambda content: b"ID3\4\0\0\0\0\2\0" + bytes(256) + content,
    "zeros in front": lambda content: bytes(1000) + content,
    "no tag, APE behind": lambda content: without_tag(content) + b"APETAGEX" + bytes(100),
}


@pytest.mark.parametrize("kind", MP3S)
def test_all_frames_of_an_mp3_are_read(kind, tmp_path):
    path = write(tmp_path, "layer.mp3")
    path.write_bytes(MP3S[kind](path.read_bytes()))
    # Without a tag the padding of the encoder, less than three frames, cannot be removed.
    assert FRAMES <= length_read(path) < FRAMES + (3 * 1152 if "no tag" in kind else 1)


def test_an_mp3_with_a_variable_rate_and_no_tag_is_read_whole(tmp_path):
    """libsndfile estimates the length from the first frame: less than a third here."""
    tone, noise = np.repeat(SIGNAL[:, :1], 2, 1), RNG.normal(0, 0.3, SIGNAL.shape)
    signal = np.concatenate([tone, noise, 1e-3 * tone])
    soundfile.write(tmp_path / "a.mp3", signal, 44_100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    (tmp_path / "a.mp3").write_bytes(without_tag((tmp_path / "a.mp3").read_bytes()))
    assert len(signal) <= length_read(tmp_path / "a.mp3") < len(signal) + 3 * 1152


def test_two_mp3s_in_one_file_are_read_to_the_end(tmp_path):
    path = write(tmp_path, "layer.mp3")
    path.write_bytes(path.read_bytes() * 2)
    assert 2 * FRAMES <= length_read(path) < 2 * FRAMES + 4 * 1152


def test_an_mp3_with_something_else_between_its_frames_is_refused(tmp_path):
    path = write(tmp_path, "layer.mp3")
    content = path.read_bytes()
    path.write_bytes(content + b"junk" * 100 + content)
    with pytest.raises(
        ValueError, match=rf"is damaged: bytes {len(content)} to {len(content) + 400} are no MP3 frames"
    ):
        AudioFile(path)


def test_a_frame_without_a_bitrate_does_not_stop_the_count(tmp_path):
    """The free format states no length; such a header in the middle is damage."""
    path = write(tmp_path, "layer.mp3")
    content = bytearray(path.read_bytes())
    third = [place for place in range(len(content)) if content.startswith(b"\xff\xfb", place)][2]
    content[third + 2] &= 0x0F
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"are no MP3 frames|is truncated"):
        AudioFile(path)


def samples_or_error(path: Path) -> int | str:
    """Samples per channel that are read, or the error, which has one line."""
    try:
        return sum(map(len, AudioFile(path).blocks()))
    except ValueError as error:
        (line,) = str(error).splitlines()
        return line


@pytest.mark.parametrize("name", [*SNDFILE, *FFMPEG])
def test_random_damage_gives_all_samples_or_an_error(name, tmp_path):
    """Truncation anywhere, and flipped bytes anywhere; what is read has at least the samples that were written."""
    path = write(tmp_path, name)
    content = path.read_bytes()
    unframed = name in ("aac.aac",)  # a stream without a length, which may be cut between two frames
    for _ in range(30):
        damaged = bytearray(content)
        if RNG.random() < 0.5 and not unframed:
            del damaged[RNG.integers(len(damaged)) :]
        else:
            for position in RNG.integers(len(damaged), size=RNG.integers(1, 4)):
                damaged[position] ^= 1 << RNG.integers(8)
        path.write_bytes(damaged)
        samples = samples_or_error(path)
        assert isinstance(samples, str) or samples >= FRAMES, f"{samples} of {FRAMES} samples"
