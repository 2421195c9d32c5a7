"""`synthesize` and `separate --score`: the outputs for a score; errors of one line that write no file."""

import numpy as np
import pytest
import soundfile

from data_pipelines.annotations.note_files import write_csv, write_midi
from data_pipelines.annotations.notes import transpose
from data_pipelines.schema import CLASSES
from qsep_jax import separate
from qsep_jax import synthesize as command_of
from tests.commands import command, refused

NOTES = np.float32([[0.2, 0.5, 60], [0.5, 0.9, 64], [1.0, 1.5, 67]])


@pytest.fixture
def scores(sounds):
    """The folder of sounds with scores: a melody, two voices, and scores that cannot be used."""
    write_midi(sounds / "melody.mid", NOTES)
    write_csv(sounds / "melody.csv", NOTES)
    write_midi(sounds / "chord.mid", np.concatenate([NOTES, transpose(NOTES, 4)]))
    write_midi(sounds / "low.mid", transpose(NOTES, -45))
    write_midi(sounds / "wide.mid", np.float32([[0, 1, 10], [1, 2, 120]]))
    write_midi(sounds / "empty.mid", NOTES[:0])
    (sounds / "text.mid").write_text("not music")
    return sounds


def play_one_pitch(monkeypatch, pitch: int) -> None:
    """Replace the transcription, which detects no note after a few steps of training, by one pitch."""
    roll = np.eye(CLASSES, dtype=np.float32)[[pitch - 21] * 10]
    monkeypatch.setattr("qsep_jax.inference.synthesis.transcribe_blocks", lambda *_: iter([roll]))


def synthesize(run, folder, score, *options) -> int:
    shared = ("--model", run, folder / "mix.wav", "--query", folder / "query.wav", "--score", folder / score)
    return command(command_of, *shared, "--out", folder / "out" / "x.wav", "--iterations", "3", *options)


def test_a_score_is_synthesised(score_run, scores, monkeypatch, capsys):
    play_one_pitch(monkeypatch, 86)
    assert synthesize(score_run, scores, "melody.mid") == 0
    assert "transposed by +24 semitones: the source plays around D6" in capsys.readouterr().out
    info = soundfile.info(scores / "out" / "x.wav")
    assert (info.samplerate, info.channels, info.subtype) == (44_100, 1, "PCM_24")
    assert info.duration == pytest.approx(1.8, abs=0.1)
    assert {path.name for path in (scores / "out").iterdir()} == {"x.wav", "manifest.json"}
    transposed = (scores / "out" / "x.wav").read_bytes()
    assert synthesize(score_run, scores, "melody.csv", "--transpose", "24", "--query", scores / "query.wav") == 0
    assert (scores / "out" / "x.wav").read_bytes() == transposed
    assert synthesize(score_run, scores, "melody.mid", "--transpose", "0", "--momentum", "0.9") == 0
    assert (scores / "out" / "x.wav").read_bytes() != transposed


def test_a_track_is_one_voice_and_the_register_comes_from_the_transcription(score_run, scores):
    """The transcription is that of the network, so only the success of the command is tested."""
    from symusic import Note, Score, Track

    score = Score(ttype="second")
    for program, pitch in ((0, 70), (40, 50)):
        score.tracks.append(Track(program=program, is_drum=False, ttype="second"))
        score.tracks[-1].notes.append(Note(0.1, 1.0, pitch, 100, "second"))
    score.dump_midi(scores / "two.mid")
    assert synthesize(score_run, scores, "two.mid", "--track", "2") == 0


def test_separation_by_score_keeps_the_format(score_run, scores):
    """Two formats of the same notes give the same audio; other notes give another."""
    estimates = {}
    for score in ("melody.mid", "melody.csv", "low.csv"):
        write_csv(scores / "low.csv", transpose(NOTES, -24))
        ask = ("--model", score_run, scores / "mix.wav", "--query", scores / "query.wav", "--score", scores / score)
        assert command(separate, *ask, "--out", scores / "out") == 0
        info = soundfile.info(scores / "out" / "mix" / "query.wav")
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 57_331, "PCM_24")
        estimates[score] = soundfile.read(scores / "out" / "mix" / "query.wav")[0]
    np.testing.assert_array_equal(estimates["melody.mid"], estimates["melody.csv"])
    assert not np.array_equal(estimates["melody.mid"], estimates["low.csv"])


@pytest.mark.parametrize("module", [command_of, separate])
@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        ("empty.mid", (), "empty.mid: holds no notes"),
        ("text.mid", (), "text.mid: is not a MIDI file"),
        ("none.mid", (), "none.mid: no such file"),
        ("chord.mid", (), "chord.mid: at 0.20 s, E4 begins"),
        ("melody.mid", ("--track", "2"), "melody.mid: has no track 2; those with notes are 1"),
    ],
)
def test_unusable_scores_are_refused(score_run, scores, capsys, module, score, options, message):
    ask = ("--model", score_run, scores / "mix.wav", "--query", scores / "query.wav", "--score", scores / score)
    refused(capsys, message, module, *ask, *options, "--out", scores / "out" / "x.wav")
    assert not (scores / "out").exists()


def test_pitches_out_of_range_are_refused(run, score_run, scores, capsys, monkeypatch):
    ask = ("--model", score_run, scores / "mix.wav", "--query", scores / "query.wav", "--out", scores / "out" / "x.wav")
    low = ("--score", scores / "low.mid")
    refused(capsys, "low.mid: MIDI pitch 15 at 0.20 s is outside 21 (A0)", command_of, *ask, *low, "--transpose", "0")
    refused(capsys, "low.mid: MIDI pitch 15 at 0.20 s is outside 21 (A0)", separate, *ask, *low)
    play_one_pitch(monkeypatch, 60)
    refused(capsys, "wide.mid: the notes reach from A#-1 to C9", command_of, *ask, "--score", scores / "wide.mid")
    assert not (scores / "out").exists()


def test_unusable_options_are_refused(run, score_run, scores, capsys):
    mix, query = scores / "mix.wav", ("--query", scores / "query.wav")
    out, score = ("--out", scores / "out" / "x.wav"), ("--score", scores / "melody.mid")
    ask = ("--model", score_run, mix, *out)
    refused(capsys, "(Lee2019) cannot synthesize", command_of, "--model", run, mix, *query, *score, *out)
    refused(capsys, "(Lee2019) cannot separate by score", separate, "--model", run, mix, *query, *score, *out)
    refused(capsys, "no query: give --query", command_of, *ask, *score)
    refused(capsys, "there is nothing to play: give --score", command_of, *ask, *query)
    refused(capsys, "silent.wav is silent", command_of, *ask, *score, "--query", scores / "silent.wav")
    refused(capsys, "--iterations must be 0 or more", command_of, *ask, *query, *score, "--iterations", "-1")
    refused(capsys, "--momentum must be at least 0 and below 1", command_of, *ask, *query, *score, "--momentum", "1")
    refused(capsys, "would be written over an input", command_of, *ask[:3], *query, *score, "--out", mix)
    refused(capsys, "cannot write '.txt' files", command_of, *ask[:3], *query, *score, "--out", scores / "x.txt")
    silent = ("--model", score_run, scores / "silent.wav", *out, *query, *score)
    refused(capsys, "silent.wav: is silent", command_of, *silent)
    refused(capsys, "silent.wav: is silent", separate, *silent)
    refused(
        capsys,
        "--score is used with a --query alone: leave out --residual",
        separate,
        *ask,
        *query,
        *score,
        "--residual",
    )
    refused(capsys, "leave out --clip rescale", separate, *ask, *query, *score, "--clip", "rescale")
    refused(capsys, "--score has the notes of one source", separate, *ask, *query, *query, *score)
    refused(capsys, "--track selects a track of a --score", separate, *ask, *query, "--track", "1")
    assert not (scores / "out").exists()


def test_the_output_of_another_mixture_is_kept(score_run, scores, capsys):
    assert synthesize(score_run, scores, "melody.mid", "--transpose", "0") == 0
    first = (scores / "out" / "x.wav").read_bytes()
    (scores / "other").mkdir()
    (scores / "other" / "mix.wav").write_bytes((scores / "mix.wav").read_bytes())
    other = ("--model", score_run, scores / "other" / "mix.wav", "--query", scores / "query.wav", "--iterations", "3")
    other += ("--score", scores / "melody.csv", "--out", scores / "out" / "x.wav")
    refused(capsys, f"x.wav is an output of {scores / 'mix.wav'}: give --overwrite", command_of, *other)
    assert (scores / "out" / "x.wav").read_bytes() == first
    assert command(command_of, *other, "--overwrite") == 0
