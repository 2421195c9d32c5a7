"""Writing of audio files: formats are preserved, and only complete files appear."""

import errno
import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.audio import writing
from data_pipelines.audio.reading import HIGHEST_RATE, LOWEST_RATE, AudioFile, read_audio
from data_pipelines.audio.writing import AudioWriter, format_for, output_suffix, write_wav
from data_pipelines.signals import Ended

NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 2)).astype(np.float32)
STEPS = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 0.0}


@pytest.mark.parametrize("subtype", STEPS)
def test_write_wav(subtype, tmp_path):
    path = tmp_path / "new" / "folder" / "out.wav"
    write_wav(path, NOISE, 22_050, subtype)
    assert [file.name for file in path.parent.iterdir()] == ["out.wav"]
    assert soundfile.info(path).subtype == subtype
    read, rate = read_audio(path)
    assert rate == 22_050
    np.testing.assert_allclose(read, NOISE, rtol=0, atol=STEPS[subtype])


def test_write_wav_clips_samples_beyond_full_scale(tmp_path):
    write_wav(tmp_path / "loud.wav", np.array([[2.0], [-2.0]] * 100), 8000)
    read, _ = read_audio(tmp_path / "loud.wav")
    np.testing.assert_allclose(read[:2, 0], [1.0, -1.0], atol=1e-4)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.wav"
    write_wav(path, NOISE, 8000)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write: No space left on device") as error_info:
        write_wav(path, NOISE[:10], 8000)
    assert (error_info.value.errno, error_info.value.filename) == (errno.ENOSPC, str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["touch", "fsync", "replace"])
def test_a_signal_while_a_file_is_written_leaves_nothing(name, tmp_path, monkeypatch):
    """The end of a command is an exception at any moment, such as the long one in which the disk is written."""

    def end(*_, **__):
        raise Ended(signal.SIGTERM)

    monkeypatch.setattr(os if name == "fsync" else Path, name, end)
    with pytest.raises(Ended):
        write_wav(tmp_path / "new" / "out.wav", NOISE, 8000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    """A file has the name of the folder, so that root, who has all permissions, fails as well."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write") as error_info:
        write_wav(tmp_path / "file" / "out.wav", NOISE, 8000)
    assert error_info.value.filename == str(tmp_path / "file" / "out.wav")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not restrict root")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot write: Permission denied"):
        write_wav(tmp_path / "out.wav", NOISE, 8000)
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


COPIES = [
    *((".wav", "WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
    *((".rf64", "RF64", "PCM_24"), (".w64", "W64", "FLOAT"), (".flac", "FLAC", "PCM_16"), (".flac", "FLAC", "PCM_24")),
    *((".aiff", "AIFF", "PCM_24"), (".aifc", "AIFF", "FLOAT"), (".caf", "CAF", "ALAC_16"), (".caf", "CAF", "PCM_32")),
    *((".au", "AU", "PCM_24"), (".snd", "AU", "ALAW"), (".ogg", "OGG", "VORBIS"), (".oga", "OGG", "VORBIS")),
    *((".opus", "OGG", "OPUS"), (".ogg", "OGG", "OPUS"), (".mp3", "MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("suffix", "container", "subtype"), COPIES)
def test_a_copy_in_the_same_format(suffix, container, subtype, tmp_path):
    """The attributes of the reader suffice to write a copy block by block."""
    path = tmp_path / f"first{suffix}"
    soundfile.write(path, NOISE, 48_000, subtype=subtype, format=container)
    file = AudioFile(path)
    copy = tmp_path / f"copy{output_suffix(path)}"
    assert copy.suffix == suffix
    assert format_for(copy, file.subtype, NOISE.size, file.channel_mask) == (container, subtype)
    with AudioWriter(copy, file.sample_rate, file.channels, subtype, container) as out:
        for block in file.blocks(700):
            out.write(block)
        assert not copy.exists()
    info = soundfile.info(copy)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (container, subtype, 48_000, 2)
    assert (info.frames, out.frames) == (3000, 3000)


# Largest error of a sample, for signals within full scale; the other sample formats lose more.
ERRORS = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "ALAC_16": 2**-15, "PCM_32": 2**-23}
ERRORS |= {"FLOAT": 0.0, "DOUBLE": 0.0}
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)


@pytest.mark.parametrize(("suffix", "container", "subtype"), COPIES)
@given(
    rate=st.sampled_from(RATES) | st.integers(LOWEST_RATE, HIGHEST_RATE),
    channels=st.integers(1, 9),
    length=st.sampled_from((1, 2, 575, 576, 1151, 1152, 1153, 2**14, 2**14 + 1)) | st.integers(1, 20_000),
    block=st.integers(1, 20_000),
)
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
def test_what_is_written_is_read(suffix, container, subtype, rate, channels, length, block):
    """Every sample of every rate, number of channels and length, or a refusal when the file is opened."""
    audio = np.random.default_rng(length).uniform(-0.9, 0.9, (length, channels)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        try:
            out = AudioWriter(path, rate, channels, subtype, container)
        except ValueError as error:
            assert f"{channels} channels at {rate} Hz" in str(error)  # noqa: PT017 (most files can be written)
            assert not list(Path(folder).iterdir())
            # The encoders of lossless formats refuse nothing but rates and channels that no recording has.
            assert subtype not in ERRORS or rate not in RATES or channels > 8
            return
        with out:
            for start in range(0, length, block):
                out.write(audio[start : start + block])
        read, read_rate = read_audio(path)
    assert (read.shape, read_rate) == (audio.shape, rate)
    if subtype in ERRORS:
        np.testing.assert_allclose(read, audio, rtol=0, atol=ERRORS[subtype])


@pytest.mark.parametrize("mask", [0x3, 0x60F, 0x33])
@pytest.mark.parametrize("container", ["WAVEX", "RF64"])
def test_the_speakers_of_an_extensible_file_are_preserved(container, mask, tmp_path):
    channels = mask.bit_count()
    samples = np.repeat(NOISE[:, :1], channels, axis=1)
    suffix = {"WAVEX": ".wav", "RF64": ".rf64"}[container]
    with AudioWriter(tmp_path / f"first{suffix}", 48_000, channels, "PCM_24", container, mask) as out:
        out.write(samples)
    file = AudioFile(tmp_path / f"first{suffix}")
    start = file.path.read_bytes().index(b"fmt ")
    assert int.from_bytes(file.path.read_bytes()[start + 28 : start + 32], "little") == mask
    assert file.channel_mask == mask
    assert format_for(file.path, file.subtype, samples.size, file.channel_mask) == (container, "PCM_24")
    np.testing.assert_allclose(read_audio(file.path)[0], samples, atol=2**-22)


def test_unsupported_sample_formats_become_the_default_of_the_container(tmp_path):
    assert format_for(tmp_path / "x.flac", "FLOAT", 10) == ("FLAC", "PCM_24")
    assert format_for(tmp_path / "x.wav", "VORBIS", 10) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "MPEG_LAYER_III", 10) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "MS_ADPCM", 10) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "aac", 10) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "alac", 10) == ("WAV", "PCM_24")
    assert output_suffix(tmp_path / "x.M4A") == ".wav"
    with pytest.raises(ValueError, match=r"cannot write '.mp4' files; give one of .wav, .wave"):
        format_for(tmp_path / "x.mp4", "PCM_16", 10)


def test_a_wav_beyond_4_gib_is_rf64(tmp_path, monkeypatch):
    assert format_for(tmp_path / "x.wav", "PCM_16", 2**31 - 2**15) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "PCM_16", 2**31) == ("RF64", "PCM_16")
    assert format_for(tmp_path / "x.wav", "FLOAT", 2**30) == ("RF64", "FLOAT")
    assert format_for(tmp_path / "x.flac", "PCM_16", 2**31) == ("FLAC", "PCM_16")
    monkeypatch.setattr(writing, "LARGEST_WAV", 1000)
    path = tmp_path / "long.wav"
    container, subtype = format_for(path, "PCM_24", NOISE.size)
    with AudioWriter(path, 48_000, 2, subtype, container) as out:
        out.write(NOISE)
    assert path.read_bytes()[:4] == b"RF64"
    np.testing.assert_allclose(read_audio(path)[0], NOISE, rtol=0, atol=2**-23)


def test_the_writer_counts_what_it_clips(tmp_path):
    for subtype, clipped in {"PCM_16": 2, "FLOAT": 0}.items():
        with AudioWriter(tmp_path / "loud.wav", 8000, 1, subtype) as out:
            out.write(np.array([[0.5], [1.0]]))
            out.write(np.array([[1.5], [-3.0]]))
        assert (out.clipped, out.peak) == (clipped, 3.0)


def test_a_format_that_does_not_support_the_signal(tmp_path):
    with pytest.raises(ValueError, match=r"x.flac: FLAC with PCM_16 cannot hold 9 channels at 8000 Hz"):
        AudioWriter(tmp_path / "x.flac", 8000, 9, "PCM_16", "FLAC")
    assert not list(tmp_path.iterdir())


def test_an_error_between_blocks_leaves_no_file(tmp_path):
    def blocks():
        yield NOISE
        raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        write_blocks(tmp_path / "new" / "folder" / "x.wav", blocks())
    assert not list(tmp_path.iterdir())


def write_blocks(path, blocks):
    with AudioWriter(path, 8000, 2) as out:
        for block in blocks:
            out.write(block)


def test_a_disk_that_fills_up_midway(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "_array_io", lambda *_: 0)
    with pytest.raises(OSError, match="cannot write: No space left on device"):
        write_blocks(tmp_path / "x.wav", [NOISE])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["__init__", "_array_io", "close"])
def test_a_full_disk_that_libsndfile_calls_a_system_error(method, tmp_path, monkeypatch):
    original = getattr(soundfile.SoundFile, method)

    def fail(self, *arguments, **options):
        if method == "close":
            original(self)
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile.SoundFile, method, fail)
    monkeypatch.setattr(soundfile.SoundFile, "__del__", lambda self: None)
    path = tmp_path / "new" / "x.wav"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(OSError, match="cannot write: No space left on device: make room on the disk") as error_info:
        write_blocks(path, [NOISE])
    assert (error_info.value.errno, error_info.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())


def test_all_files_appear_or_none(tmp_path, monkeypatch):
    """If the second file cannot be completed on disk, the first one does not appear either."""
    calls = []

    def full_at_second_file(_: int) -> None:
        calls.append(0)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_at_second_file)
    with pytest.raises(OSError, match="No space left"):
        write_all_or_none([tmp_path / "new" / name for name in ("a.wav", "b.wav", "c.wav")])
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_all_or_none([tmp_path / "new" / name for name in ("a.wav", "b.wav")])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.wav", "b.wav"}


def write_all_or_none(paths):
    writers = []
    with writing.all_or_none(writers):
        for path in paths:
            writers.append(AudioWriter(path, 8000, 2))
        for writer in writers:
            writer.write(NOISE)


def test_samples_that_the_encoder_could_not_flush_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile, "info", lambda _: SimpleNamespace(frames=2999))
    with pytest.raises(OSError, match="No space left"):
        write_blocks(tmp_path / "x.wav", [NOISE])
    assert not list(tmp_path.iterdir())
