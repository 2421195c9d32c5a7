"""Audio files out: formats are kept, and nothing half-written appears under its name."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from data_pipelines.audio import writing
from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.writing import AudioWriter, format_for, output_suffix, write_wav

NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 2)).astype(np.float32)
SUFFIXES = {"WAV": ".wav", "FLAC": ".flac", "OGG": ".ogg", "AIFF": ".aiff"}
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


def test_write_wav_clips_what_is_beyond_full_scale(tmp_path):
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
    with pytest.raises(OSError, match="cannot write: No space left on device") as caught:
        write_wav(path, NOISE[:10], 8000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path):
    """A file stands where the folder should be: root, who may write anywhere, fails there too."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write") as caught:
        write_wav(tmp_path / "file" / "out.wav", NOISE, 8000)
    assert caught.value.filename == str(tmp_path / "file" / "out.wav")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user other than root, whom no folder refuses")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot write: Permission denied"):
        write_wav(tmp_path / "out.wav", NOISE, 8000)
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_32"),
        ("WAV", "DOUBLE"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("AIFF", "PCM_24"),
    ],
)
def test_a_file_like_another(container, subtype, tmp_path):
    """What a reader says of a file is enough to write one like it, block by block."""
    path = tmp_path / f"first{SUFFIXES[container]}"
    soundfile.write(path, NOISE, 48_000, subtype=subtype, format=container)
    file = AudioFile(path)
    copy = tmp_path / f"copy{output_suffix(path)}"
    kind = format_for(copy, file.subtype, NOISE.size)
    assert kind == (container, subtype)
    with AudioWriter(copy, file.sample_rate, file.channels, kind[1], kind[0]) as out:
        for block in file.blocks(700):
            out.write(block)
        assert not copy.exists()
    info = soundfile.info(copy)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (container, subtype, 48_000, 2)
    assert (info.frames, out.frames) == (3000, 3000)


def test_sample_formats_that_a_container_lacks_become_its_usual_one(tmp_path):
    assert format_for(tmp_path / "x.flac", "FLOAT", 10) == ("FLAC", "PCM_24")
    assert format_for(tmp_path / "x.wav", "VORBIS", 10) == ("WAV", "PCM_16")
    assert format_for(tmp_path / "x.wav", "MPEG_LAYER_III", 10) == ("WAV", "PCM_16")
    assert output_suffix(tmp_path / "x.MP3") == ".wav"
    with pytest.raises(ValueError, match=r"cannot write '.mp4' files; give one of .wav, .flac"):
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


def test_a_format_that_cannot_hold_the_signal_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"x.flac: FLAC with PCM_16 cannot hold 9 channels at 8000 Hz"):
        AudioWriter(tmp_path / "x.flac", 8000, 9, "PCM_16", "FLAC")
    assert not list(tmp_path.iterdir())


def test_an_error_in_between_leaves_nothing(tmp_path):
    def blocks():
        yield NOISE
        raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        written(tmp_path / "new" / "folder" / "x.wav", blocks())
    assert not list(tmp_path.iterdir())


def written(path, blocks):
    with AudioWriter(path, 8000, 2) as out:
        for block in blocks:
            out.write(block)


def test_a_disk_that_fills_up_midway(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "_array_io", lambda *_: 0)
    with pytest.raises(OSError, match="cannot write: No space left on device"):
        written(tmp_path / "x.wav", [NOISE])
    assert not list(tmp_path.iterdir())


def test_files_that_belong_together_appear_together(tmp_path, monkeypatch):
    """The second one fails when it is put on disk: the first is not there either."""
    calls = []

    def full_at_last(_: int) -> None:
        calls.append(0)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_at_last)
    with pytest.raises(OSError, match="No space left"):
        written_together([tmp_path / "new" / name for name in ("a.wav", "b.wav", "c.wav")])
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    written_together([tmp_path / "new" / name for name in ("a.wav", "b.wav")])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.wav", "b.wav"}


def written_together(paths):
    writers = []
    with writing.all_or_none(writers):
        for path in paths:
            writers.append(AudioWriter(path, 8000, 2))
        for writer in writers:
            writer.write(NOISE)


def test_what_the_encoder_could_not_flush_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile, "info", lambda _: SimpleNamespace(frames=2999))
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "x.wav", [NOISE])
    assert not list(tmp_path.iterdir())
