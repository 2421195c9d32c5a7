"""Tests of the experiments of Lin et al. 2021: the pairs, the measures, and that nothing is scored twice."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mir_eval.separation import bss_eval_sources

from benchmarks.papers.lin2021 import frames, pairs, scoring, synthesis, table
from data_pipelines.annotations.notes import frame_classes, notes_from_classes
from data_pipelines.corpora.base import Stem
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.schema import CLASSES, SILENCE_CLASS
from qsep_jax.systems.lin2021 import Lin2021
from tests.commands import command, refused

RATE, SECONDS = 16_000, 3.0
PLAYERS = {"a": ("cello", "flute", "oboe"), "b": ("cello", "flute", "oboe"), "c": ("cello", "tuba")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Prepare a test split of three pieces; each player has two notes and then silence."""
    root = tmp_path_factory.mktemp("data")

    def pieces():
        time = np.arange(round(SECONDS * RATE)) / RATE
        for number, (piece, players) in enumerate(PLAYERS.items()):
            loaded = []
            for index, stem in enumerate(players):
                first = 60 + 3 * index + number
                notes = np.array([[0.0, 1.0, first], [1.0, 2.0, first + 4]], np.float32)
                audio = np.zeros_like(time)
                for onset, offset, pitch in notes:
                    tone = np.sin(2 * np.pi * 440.0 * 2 ** ((pitch - 69) / 12) * time)
                    audio += tone * ((time >= onset) & (time < offset))
                loaded.append(Stem(stem, np.int16(6000 * audio)[:, None], "", notes))
            yield store.segments(piece, loaded, RATE)

    folder = store.corpus_folder(root, "pieces", RATE)
    store.write(folder, "pieces", RATE, 1, {"test": pieces()}, fingerprint="0", options={"kind": "chamber"})
    return root


@pytest.fixture(scope="module")
def corpus(data):
    return open_corpus(data, "pieces", RATE, "test")


def test_pairs_are_of_one_piece_with_queries_from_another(corpus):
    selected = pairs.test_pairs(corpus, 0, 0)
    # Three pairs each of the pieces a and b; no other piece has a query of the tuba of c.
    assert len(selected) == 6
    for first, second in selected:
        assert first.track == second.track
        assert first.stem != second.stem
        for source in (first, second):
            assert source.query_track != source.track
            assert source.query_track in corpus.tracks(source.stem)
    assert [pair[0].track for pair in selected] == ["a", "b"] * 3  # the pieces take turns
    assert pairs.test_pairs(corpus, 2, 0) == selected[:2]
    assert pairs.test_pairs(corpus, 0, 0) == selected


def test_pairs_of_urmp_are_the_published_ones():
    urmp = SimpleNamespace(metadata=SimpleNamespace(options={"kind": "urmp"}))
    selected = pairs.test_pairs(urmp, 0, 0)
    assert len(selected) == 32
    assert selected[0][1] == pairs.Source("AuSep_4_sax_39_Jerusalem", "saxophone", "AuSep_4_sax_30_Fugue")


def test_waveforms_and_queries(corpus):
    pair = pairs.test_pairs(corpus, 1, 0)[0]
    assert pairs.waveforms(corpus, pair, 0.0).shape == (2, round(SECONDS * RATE), 1)
    assert pairs.waveforms(corpus, pair, 1.5).shape == (2, 24_000, 1)
    assert len(pairs.query(corpus, pair[0])) == 2 * RATE  # without the silence at the end


def test_queries_are_cut_by_energy_without_looking_at_notes(corpus, monkeypatch):
    librosa = pytest.importorskip("librosa")
    source = pairs.test_pairs(corpus, 1, 0)[0][0]
    monkeypatch.setattr(pairs, "sounding_parts", None)  # the notes must not be read
    query = pairs.query(corpus, source, "energy")
    track = corpus.read(Excerpt(source.query_track, source.stem, 0, round(SECONDS * RATE)))
    assert abs(len(query) - 2 * RATE) < 2048  # the last second is silent
    np.testing.assert_array_equal(query, track[: len(query)])
    loud = librosa.effects.split(track[:, 0], top_db=18)
    assert len(query) == sum(stop - start for start, stop in loud)


def test_sdr_is_that_of_mir_eval():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(4000, 1))
    estimate = 0.8 * np.roll(reference, 3) + 0.3 * rng.normal(size=(4000, 1))
    with pytest.warns(FutureWarning):
        theirs = bss_eval_sources(reference.T, estimate.T, compute_permutation=False)[0]
    assert scoring.sdr(reference, estimate) == pytest.approx(theirs[0], abs=1e-6)


def random_notes(rng, count=60):
    """Notes of one voice with gaps and without, none shorter than 40 ms, and 3 s of silence before the last one."""
    edges = 0.3 + np.cumsum(rng.uniform(0.05, 0.6, count))
    edges[-2:] += 3.0
    offsets = np.append(edges[1:], edges[-1] + 0.5) - rng.choice([0.0, 0.01], count)
    offsets[-3] -= 3.0
    return np.stack([edges, offsets, rng.integers(21, 109, count)], 1).astype(np.float32)


@pytest.mark.parametrize("rate", [50.0, 100.0])
def test_a_perfect_transcriber_has_a_precision_of_one(rate):
    for seed in range(5):
        notes = random_notes(np.random.default_rng(seed))
        classes = frame_classes(notes, round(60 * rate), rate)  # what the transcriber is trained with
        assert frames.frame_precision(notes, classes, rate, 6000) == pytest.approx(1.0)
        assert frames.frame_precision(notes, classes, rate, round(8 * rate)) == pytest.approx(1.0)
        octave = np.where(classes < 40, classes + 12, classes)
        assert frames.frame_precision(notes, octave, rate, 6000) < 0.8


def test_the_precision_is_that_of_scikit_learn_on_the_published_rolls():
    """`compute_measure.py`: int(onset · 100) to int(offset · 100 + 1), for both; none after the last true note."""
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    rate, rng = 100.0, np.random.default_rng(1)
    notes = random_notes(rng)
    classes = np.roll(frame_classes(notes, 6000, rate), 7)

    def roll(rows, count):
        cells = np.zeros((count, CLASSES))
        for onset, offset, pitch in rows.astype(np.float64) + np.array([1e-6, 1e-6, 0.0]):
            cells[int(onset * 100) : int(offset * 100 + 1), int(pitch) - 21] = 1
        cells[cells.sum(1) == 0, SILENCE_CLASS] = 1
        return cells

    count = int((notes[-1, 1] + 1e-6) * 100 + 1)
    expected = metrics.average_precision_score(
        roll(notes, count), roll(notes_from_classes(classes, rate), count), average="micro"
    )
    assert 0.1 < expected < 0.95
    assert frames.frame_precision(notes, classes, rate, 6000) == pytest.approx(expected, abs=1e-9)


def test_frames_after_the_last_note_and_missing_frames():
    notes = np.array([[0.0, 0.5, 60.0], [0.495, 1.0, 64.0]], np.float32)
    roll = frames.note_roll(notes, 110, 100.0)
    assert roll[50].nonzero()[0].tolist() == [60 - 21, 64 - 21]  # a frame may have two notes
    assert roll[:, SILENCE_CLASS].nonzero()[0].tolist() == list(range(101, 110))
    classes = frame_classes(notes, 101, 100.0)
    late = np.append(classes, np.full(40, 70))  # a note after the last true one
    assert frames.frame_precision(notes, late, 100.0, 150) == frames.frame_precision(notes, classes, 100.0, 150)
    assert frames.frame_precision(notes, classes[:60], 100.0, 150) < 0.7  # the mixture was cut to its shorter source
    assert frames.frame_precision(notes, classes[:60], 100.0, 60) > 0.9
    assert np.isnan(frames.frame_precision(notes[:0], classes, 100.0, 150))


def test_minutes_of_each_instrument(corpus):
    minutes = table.minutes_of_instruments(corpus)["test"]
    assert (minutes["cello"], minutes["oboe"], minutes["violin"]) == pytest.approx((3 * 3 / 60, 2 * 3 / 60, 0.0))


def test_means_over_sources_then_over_checkpoints():
    def scores(*values):
        return [{"stem": stem, "sdr": value} for stem, value in zip(("cello", "flute", "oboe"), values, strict=True)]

    by_step = {1: scores(1.0, 3.0, 5.0), 2: scores(3.0, 5.0, 4.0)}
    summaries = table.over_checkpoints(by_step, "sdr")
    assert summaries["seen"] == pytest.approx((3.0, 1.96 * 1.0 / np.sqrt(2)))
    assert summaries["unseen"] == pytest.approx((4.5, 1.96 * 0.5 / np.sqrt(2)))
    assert summaries["all"][0] == pytest.approx((3.0 + 4.0) / 2)
    text = table.table(table.rows_of("MSI", by_step, {}), "heading")
    assert "| MSI | 3.00 ± 1.39 | 4.50 ± 0.69 | 3.50 ± 0.69 | – |" in text
    assert "| MSI, paper | 6.33 ± 0.17 |" in text
    assert "the paper's rows are for URMP" in text


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"decoding": "nothing"}, "AMT-only"),
        ({"decoding": "skips", "transcription": False}, "MSS-only"),
        ({"decoding": "skips"}, "multi-task"),
        ({}, "MSI"),
        ({"translation_invariance": True}, "MSI-DIS"),
    ],
)
def test_names_of_the_systems(fields, name):
    assert scoring.name_of(Lin2021(**fields)) == name


@pytest.mark.slow
def test_the_table_of_a_run(score_run, data, tmp_path, monkeypatch):
    options = ("--workdir", score_run, "--root", data, "--corpus", "pieces", "--pairs", 1, "--seconds", 1.0)
    options += ("--checkpoints", 2, "--out", tmp_path)
    cached = scoring.cached_scores  # the scores go to another folder, so that the shared run does not change
    monkeypatch.setattr(scoring, "cached_scores", lambda path, *others: cached(tmp_path / path.name, *others))
    assert command(table, *options) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    systems = {(row["system"], row["metric"]) for row in rows}
    assert systems >= {("mixture", "sdr"), ("ideal ratio mask", "sdr"), ("MSI", "sdr"), ("MSI-S", "sdr"), ("MSI", "ap")}
    bounds = {row["system"]: row["mean"] for row in rows if row["metric"] == "sdr" and row["group"] == "all"}
    assert bounds["ideal ratio mask"] > bounds["mixture"] + 5
    assert {tuple(row["checkpoints"]) for row in rows if row["system"] == "MSI"} == {(2, 4)}
    assert (tmp_path / "instruments.png").stat().st_size > 5000
    assert (tmp_path / "durations.png").stat().st_size > 5000
    first = (tmp_path / "table.md").read_text()
    assert all(row["protocol"].startswith("queries cut by notes; ") for row in rows)
    monkeypatch.setattr(scoring, "score_pair", None)  # a second scoring would fail
    assert command(table, *options) == 0
    assert (tmp_path / "table.md").read_text() == first
    with pytest.raises(TypeError):  # scores with other queries are not taken for these
        table.evaluate(score_run, table.Table(root=str(data), corpus="pieces", pairs=1, seconds=1.0, queries="energy"))


def test_options_are_refused_with_one_line(score_run, run, tmp_path, capsys):
    refused(capsys, "--workdir is needed", table)
    refused(capsys, "give a run of configs/lin2021.py", table, "--workdir", run, "--out", tmp_path)
    refused(capsys, "--checkpoints must be positive", table, "--workdir", score_run, "--checkpoints", 0)
    refused(capsys, "--workdir is needed", synthesis)
    refused(capsys, "give a run of configs/lin2021.py", synthesis, "--workdir", run, "--out", tmp_path)


def test_log_spectral_distance():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=4096)
    assert synthesis.log_spectral_distance(noise, noise, 256, 64) == pytest.approx(0.0, abs=1e-4)
    assert synthesis.log_spectral_distance(noise, 0.1 * noise, 256, 64) == pytest.approx(0.0, abs=1e-4)
    # Half of the frames are at the floor or below.
    faded = np.concatenate([noise[:2048], 1e-6 * noise[2048:]])
    assert 10 < synthesis.log_spectral_distance(noise, faded, 256, 64) < synthesis.FLOOR_DB


def test_the_pitch_tracker_detects_the_notes():
    rate, time = 8000, np.arange(4000) / 8000
    pitches = (60, 64, 67)
    tones = [
        sum(np.sin(2 * np.pi * k * 440 * 2 ** ((p - 69) / 12) * time) / k for k in (1, 2, 3)) * np.hanning(4000) ** 0.25
        for p in pitches
    ]
    detected = synthesis.detected_notes(np.concatenate(tones).astype(np.float32), rate, 160)
    assert detected[:, 2].tolist() == list(pitches)
    np.testing.assert_allclose(detected[:, 0], [0.0, 0.5, 1.0], atol=0.08)
