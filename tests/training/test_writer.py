"""Tests of `metrics.jsonl` after a kill, and of audio and pictures in TensorBoard."""

import json
import threading

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter

from qsep_jax.training.writer import Writer, spectrogram_picture


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_have_step_time_and_values_and_are_written_immediately(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(3, {"cvae/loss": 0.25})
    (line,) = lines(tmp_path)
    assert line.pop("time") > 1.7e9
    assert line == {"step": 3, "cvae/loss": 0.25}
    writer.close()


def test_a_continued_run_removes_lines_that_it_will_write_again(tmp_path):
    writer = Writer(tmp_path)
    for step in (10, 20, 30, 40):
        writer.scalars(step, {"loss": 1.0})
    writer.close()
    writer = Writer(tmp_path, 20)
    writer.scalars(30, {"loss": 2.0})
    writer.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "half", ['{"step": 2', '{"step": 20, "loss', "", '{"loss": 1.0}', '"step"', "[1, 2]", "\x00\x00"]
)
def test_incomplete_lines_are_removed(tmp_path, half):
    writer = Writer(tmp_path)
    writer.scalars(10, {"loss": 1.0})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(half)
    writer = Writer(tmp_path, 25)
    writer.scalars(30, {"loss": 2.0})
    writer.close()
    assert [line["step"] for line in lines(tmp_path)] == [10, 30]


def test_a_run_that_restarts_at_0_removes_all_lines(tmp_path):
    """A run that was killed before its first checkpoint restarts at step 0."""
    writer = Writer(tmp_path)
    writer.scalars(10, {"loss": 1.0})
    writer.close()
    Writer(tmp_path, 0).close()
    assert lines(tmp_path) == []


def test_a_full_disk_is_an_error_of_the_run_folder(tmp_path, monkeypatch):
    writer = Writer(tmp_path)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "write_event", full)
    with pytest.raises(OSError, match=r"No space left on device: make room on the disk.* the same command continues"):
        writer.scalars(1, {"loss": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == [1]
    writer.close()


def test_a_writer_starts_no_thread(tmp_path):
    """A thread of its own would hide that the disk is full, until the queue to it is full."""
    before = threading.active_count()
    writer = Writer(tmp_path)
    for step in range(50):
        writer.scalars(step, {"loss": 1.0})
    assert threading.active_count() == before
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert events.read_bytes().count(b"loss") == 50


def test_audio_and_pictures_are_in_tensorboard(tmp_path):
    writer = Writer(tmp_path)
    writer.sound(1, "preview/estimate", np.full((4000, 2), 3.0, np.float32), 8000)
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"preview/estimate" in content
    assert b"RIFF" in content
    assert b"PNG" in content


@pytest.mark.parametrize("length", [0, 100, 1024, 5000])
def test_pictures_of_any_length(length):
    time = np.arange(length) / 8000
    picture = spectrogram_picture(np.sin(2 * np.pi * 1000 * time).astype(np.float32))
    assert picture.dtype == np.uint8
    assert picture.shape[::2] == (513, 3)
    if length == 5000:  # low frequencies are at the bottom: 1 kHz of 4 kHz is at a quarter of the height
        brightest = picture.astype(int).sum(axis=(1, 2)).argmax()
        assert abs((512 - brightest) / 512 - 0.25) < 0.01
