"""`transcribe` on files: MIDI, CSV, frames, figure and sonification for each query; errors of one line."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines.annotations.note_files import read_csv, read_midi
from data_pipelines.annotations.notes import notes_from_classes
from data_pipelines.schema import CLASSES
from qsep_jax import transcribe as command_of
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, refused

ENDINGS = (".mid", ".csv", ".npz", ".png", "_sonified.wav")


@pytest.fixture
def scale(monkeypatch):
    """Replace the transcription by a scale: a network that was trained for a few steps detects no note."""

    def transcribe_scale(model, blocks, condition):
        length = sum(map(len, blocks))
        frames = -(-length // model.system.hop_length)
        classes = np.repeat([88, 39, 41, 43, 88, 44], 2 + frames // 6)[:frames]
        yield np.eye(CLASSES, dtype=np.float32)[classes]

    monkeypatch.setattr(command_of, "transcribe_blocks", transcribe_scale)


def transcribe(run, *options) -> int:
    return command(command_of, "--model", run, *options)


def test_a_query_gives_all_outputs(score_run, sounds, scale):
    query = ("--query", sounds / "query.wav")
    assert transcribe(score_run, sounds / "mix.wav", *query, "--out", sounds / "out", "--program", "40") == 0
    folder = sounds / "out" / "mix"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"query{ending}" for ending in ENDINGS)
    table = read_csv(folder / "query.csv")
    np.testing.assert_array_equal(table[:, 2], [60, 62, 64, 65])
    np.testing.assert_allclose(read_midi(folder / "query.mid"), table, atol=2e-3)
    system = RunFolder(score_run).experiment().system
    with np.load(folder / "query.npz") as arrays:
        assert arrays["probabilities"].shape == (len(arrays["classes"]), CLASSES)
        assert arrays["frame_rate"] == system.sample_rate / system.hop_length
        np.testing.assert_array_equal(arrays["classes"], arrays["probabilities"].argmax(1))
        np.testing.assert_allclose(notes_from_classes(arrays["classes"], float(arrays["frame_rate"])), table, atol=1e-3)
    info = soundfile.info(folder / "query_sonified.wav")
    assert (info.samplerate, info.channels, info.frames) == (44_100, 1, 57_331)
    assert np.abs(soundfile.read(folder / "query_sonified.wav")[0]).max() > 0.1
    assert (folder / "query.png").read_bytes()[:4] == b"\x89PNG"


def test_the_real_network_with_several_queries(score_run, sounds):
    queries = ("--query", sounds / "query.wav", "--query", sounds / "other.flac")
    assert transcribe(score_run, sounds / "mix.wav", *queries, "--out", sounds / "out") == 0
    names = {path.name for path in (sounds / "out" / "mix").iterdir()}
    assert names == {f"{query}{ending}" for query in ("query", "other") for ending in ENDINGS}
    with np.load(sounds / "out" / "mix" / "query.npz") as arrays:
        np.testing.assert_allclose(arrays["probabilities"].sum(1), 1.0, atol=1e-4)
        rate = float(arrays["frame_rate"])
        assert len(arrays["classes"]) == pytest.approx(57_331 / 44_100 * rate, abs=1)
    assert transcribe(score_run, sounds / "mix.wav", *queries, "--average-queries", "--out", sounds / "one") == 0
    names = {path.name for path in (sounds / "one" / "mix").iterdir()}
    assert names == {f"query+other{ending}" for ending in ENDINGS}


def test_short_notes_are_skipped(score_run, sounds, scale):
    query = ("--query", sounds / "query.wav", "--out", sounds / "out")
    assert transcribe(score_run, sounds / "mix.wav", *query, "--shortest", "10") == 0
    assert not len(read_csv(sounds / "out" / "mix" / "query.csv"))
    assert not np.any(soundfile.read(sounds / "out" / "mix" / "query_sonified.wav")[0])


def test_unreadable_and_silent_files_do_not_stop_the_others(score_run, sounds, capsys, scale):
    album = sounds / "album"
    album.mkdir()
    (album / "a.wav").write_bytes((sounds / "mix.wav").read_bytes())
    (album / "b.wav").write_bytes(b"no audio")
    (album / "c.wav").write_bytes((sounds / "silent.wav").read_bytes())
    options = ("--model", score_run, album, "--query", sounds / "query.wav", "--out", sounds / "out")
    refused(capsys, "2 of 3 files could not be transcribed", command_of, *options)
    assert {path.name for path in (sounds / "out").iterdir()} == {"a", "manifest.json"}


def test_unusable_options_are_refused(run, score_run, sounds, capsys):
    mix, query, out = sounds / "mix.wav", ("--query", sounds / "query.wav"), ("--out", sounds / "out")
    options = ("--model", score_run, mix, *out)
    refused(capsys, "(Lee2019) cannot transcribe, it can separate", command_of, "--model", run, mix, *query, *out)
    refused(capsys, "no query: give --query", command_of, *options)
    refused(capsys, "silent.wav is silent", command_of, *options, "--query", sounds / "silent.wav")
    refused(capsys, "none.wav: no such file", command_of, *options, "--query", sounds / "none.wav")
    silent = ("--model", score_run, sounds / "silent.wav", *query, *out)
    refused(capsys, "silent.wav: is silent: there is nothing to transcribe", command_of, *silent)
    refused(capsys, "--shortest must be 0 or more seconds, not -1", command_of, *options, *query, "--shortest", "-1")
    refused(capsys, "--program must be 0 to 127, not 128", command_of, *options, *query, "--program", "128")
    refused(capsys, "did you mean '--query'?", command_of, *options, "--qery", "x.wav")
    refused(capsys, "is no run folder", command_of, "--model", sounds, mix, *query, *out)
    (sounds / "mix").mkdir()
    (sounds / "mix" / "q_sonified.wav").write_bytes((sounds / "query.wav").read_bytes())
    (sounds / "q.wav").write_bytes((sounds / "query.wav").read_bytes())
    over = ("--model", score_run, mix, "--query", sounds / "mix" / "q_sonified.wav", "--query", sounds / "q.wav")
    refused(capsys, "would be written over an input", command_of, *over, "--out", sounds)
    assert not (sounds / "out").exists()


def test_equal_names_get_distinct_outputs_and_none_is_overwritten(score_run, sounds, capsys, scale):
    for name in ("d1", "d2"):
        (sounds / name).mkdir()
        (sounds / name / "mix.wav").write_bytes((sounds / "mix.wav").read_bytes())
    first, second = sounds / "d1" / "mix.wav", sounds / "d2" / "mix.wav"
    options = ("--query", sounds / "query.wav", "--out", sounds / "out")
    assert transcribe(score_run, first, second, *options) == 0
    assert transcribe(score_run, first, *options) == transcribe(score_run, first, *options) == 0
    assert {path.name for path in (sounds / "out").iterdir()} == {"d1", "d2", "mix", "manifest.json"}
    refused(capsys, f"is an output of {first}", command_of, "--model", score_run, second, *options)
    assert transcribe(score_run, second, *options, "--overwrite") == 0
    entries = json.loads((sounds / "out" / "manifest.json").read_text())
    assert [[item["file"] for item in entry["transcribed"]] for entry in entries] == [
        [str(first), str(second)],
        [str(first)],
        [str(first)],
        [str(second)],
    ]
