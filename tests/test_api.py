"""The Python interface: the samples of the command, one clear refusal for each misuse, and several threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import soundfile

import qsep_jax
from data_pipelines.audio.reading import read_audio
from qsep_jax import separate as separate_command
from tests.commands import command
from tests.pieces import ON_LABELS, RATE, STEMS, UNCONDITIONED, write_bundle

RNG = np.random.default_rng(0)
MODEL = "chamber13"


@pytest.fixture(scope="module")
def separator():
    return qsep_jax.load(MODEL)


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    """Two channels of 1.3 s at 44.1 kHz, in 32-bit floats so that no sample is rounded."""
    path = tmp_path_factory.mktemp("sounds") / "mix.wav"
    soundfile.write(path, RNG.uniform(-0.5, 0.5, (57_331, 2)).astype(np.float32), 44_100, "FLOAT")
    return path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        name: write_bundle(system, folder / name)
        for name, system in {"none": UNCONDITIONED, "labels": ON_LABELS}.items()
    }


def noise(*shape: int) -> np.ndarray:
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32)


def test_bundled_models_are_listed_with_what_they_do():
    models = {model.name: model for model in qsep_jax.list_models()}
    assert models[MODEL].cues == ("query",)
    assert "violin" in models[MODEL].stems
    assert models[MODEL].sample_rate == qsep_jax.load(MODEL).sample_rate == 16_000


def test_facts_need_no_weights(monkeypatch):
    monkeypatch.setattr("qsep_jax.runs.bundle.Bundle.load", lambda self: pytest.fail("read the weights"))
    separator = qsep_jax.load(MODEL)
    assert separator.tasks == ("separate",)
    assert separator.name == MODEL
    assert len(separator.stems) == 13


def test_the_samples_are_those_of_the_command(separator, mix, tmp_path):
    options = ("--label", "violin", "--query", mix, "--residual", "--wiener", 1, "--out", tmp_path)
    assert command(separate_command, "--model", MODEL, mix, *options) == 0
    audio, rate = read_audio(mix)
    outputs = separator.separate(audio, rate, label="violin", query=mix, residual=True, wiener=1)
    assert list(outputs) == ["mix", "violin", "residual"]
    for name, samples in outputs.items():
        np.testing.assert_array_equal(samples, read_audio(tmp_path / "mix" / f"{name}.wav")[0])
    paths = separator.separate_file(
        mix, tmp_path / "api", label="violin", query=mix, residual=True, wiener=1, name="{stem} of {track}.{ext}"
    )
    assert paths["violin"] == tmp_path / "api" / "violin of mix.wav"
    for name, path in paths.items():
        np.testing.assert_array_equal(read_audio(path)[0], outputs[name])


def test_rate_length_and_layout_are_those_of_the_input(separator):
    for shape in ((30_001,), (30_001, 1), (30_001, 2)):
        outputs = separator.separate(noise(*shape), 22_050, labels=["violin", "cello"])
        assert list(outputs) == ["violin", "cello"]
        assert {(samples.shape, samples.dtype) for samples in outputs.values()} == {(shape, np.dtype(np.float32))}


def test_integers_are_scaled(separator):
    samples = RNG.integers(-20_000, 20_000, 20_000).astype(np.int16)
    from_integers = separator.separate(samples, 16_000, label="oboe")["oboe"]
    from_floats = separator.separate(samples / 32_768.0, 16_000, label="oboe")["oboe"]
    np.testing.assert_array_equal(from_integers, from_floats)
    assert np.abs(from_integers).max() < 10


def test_silence_gives_silence(separator):
    output = separator.separate(np.zeros((20_000, 2)), 16_000, label="oboe")["oboe"]
    np.testing.assert_array_equal(output, np.zeros((20_000, 2), np.float32))


def test_a_condition_stands_for_a_query(separator, mix):
    audio, query = noise(20_000), noise(60_000)
    by_query = separator.separate(audio, 16_000, query=query)["query"]
    condition = separator.encode(query, 16_000)
    np.testing.assert_array_equal(separator.separate(audio, 16_000, condition=condition)["condition"], by_query)
    by_rate = separator.separate(audio, 16_000, query={"a": query}, query_sample_rate=48_000)["a"]
    assert not np.array_equal(by_rate, by_query)
    violin, cello = separator.mean("violin"), separator.mean("cello")
    between = separator.interpolate(violin, cello, 0.5)
    ends = [separator.interpolate(violin, cello, alpha) for alpha in (0.0, 1.0)]
    np.testing.assert_allclose(jax.tree.leaves(ends[0])[0], jax.tree.leaves(violin)[0], atol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(ends[1])[0], jax.tree.leaves(cello)[0], atol=1e-5)
    assert not np.allclose(jax.tree.leaves(between)[0], jax.tree.leaves(violin)[0], atol=1e-3)


def test_another_length_compiles_nothing(separator):
    separator.separate(noise(50_000, 2), 16_000, label="violin", residual=True)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        separator.separate(noise(71_234, 2), 16_000, label="cello", residual=True)
        separator.separate(noise(9_000), 16_000, label="cello")
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


def test_eight_threads_get_what_one_gets(tmp_path):
    audio = [noise(20_000 + 1_000 * number) for number in range(8)]
    alone = [qsep_jax.load(MODEL).separate(samples, 16_000, label="flute")["flute"] for samples in audio]
    shared, start = qsep_jax.load(MODEL), threading.Barrier(8)

    def separate(samples: np.ndarray) -> np.ndarray:
        start.wait(60)  # the weights are loaded by all of them at the same time
        return shared.separate(samples, 16_000, label="flute")["flute"]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(separate, audio))
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)


def test_progress_grows_to_one_and_can_cancel(separator, mix, tmp_path):
    fractions = []
    separator.separate(noise(300_000), 16_000, label="violin", progress=fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1.0
    with pytest.raises(qsep_jax.Cancelled):
        separator.separate(noise(300_000), 16_000, label="violin", progress=lambda fraction: fraction < 0.5)
    with pytest.raises(qsep_jax.Cancelled):
        separator.separate_file(mix, tmp_path / "out", label="violin", progress=lambda fraction: False)
    assert not (tmp_path / "out").exists()


def test_models_without_queries(bundles):
    audio = noise(6_000)
    every_stem = qsep_jax.load(bundles["none"]).separate(audio, RATE)
    assert tuple(every_stem) == STEMS
    one = qsep_jax.load(bundles["none"]).separate(audio, RATE, label="flute")
    np.testing.assert_array_equal(one["flute"], every_stem["flute"])
    labelled = qsep_jax.load(bundles["labels"])
    assert labelled.labels == STEMS
    assert list(labelled.separate(audio, RATE, labels=["violin", "cello"])) == ["violin", "cello"]


def test_a_saved_model_separates_alike(separator, tmp_path):
    audio = noise(20_000)
    separator.save(tmp_path / "copy")
    again = qsep_jax.load(tmp_path / "copy").separate(audio, 16_000, label="horn")
    np.testing.assert_array_equal(again["horn"], separator.separate(audio, 16_000, label="horn")["horn"])
    with pytest.raises(ValueError, match="copy exists already"):
        separator.save(tmp_path / "copy")


def test_an_adapted_condition_is_kept_as_a_delta(separator, tmp_path):
    mixture = noise(32_000)
    activations = {"violin": [(0.0, 1.0)], "cello": [(0.5, 2.0)]}
    settings = {"epochs": 3, "hop": 1.0, "learning_rate": 1e-2}
    adapted = separator.adapt(mixture, 16_000, activations, labels=["violin", "cello"], **settings)
    outputs = adapted.separate(mixture, 16_000)
    assert list(outputs) == ["violin", "cello"]
    before = separator.separate(mixture, 16_000, labels=["violin", "cello"])
    assert not np.array_equal(outputs["violin"], before["violin"])
    adapted.save_delta(tmp_path / "song.safetensors")
    loaded = qsep_jax.load(MODEL, delta=tmp_path / "song.safetensors").separate(mixture, 16_000)
    np.testing.assert_array_equal(loaded["cello"], outputs["cello"])
    with pytest.raises(ValueError, match="kept as a delta"):
        adapted.save(tmp_path / "bundle")
    with pytest.raises(ValueError, match="was not adapted"):
        separator.save_delta(tmp_path / "other.safetensors")


def test_notes_and_sound(score_run, tmp_path):
    """Of a network that was trained for a few steps: what matters is the form."""
    model = qsep_jax.load(score_run)
    audio, query = noise(30_000, 2), noise(30_000)
    score = np.array([[0.1, 0.5, 60.0], [0.5, 0.9, 62.0]])
    transcription = model.transcribe(audio, 22_050, query=query)
    seconds = len(audio) / 22_050
    assert transcription.notes.shape[1] == 3
    assert len(transcription.probabilities) == pytest.approx(seconds * transcription.frame_rate, abs=1)
    np.testing.assert_allclose(transcription.probabilities.sum(axis=1), 1.0, atol=1e-4)
    by_score = model.separate(audio, 22_050, query=query, score=score)["query"]
    assert by_score.shape == audio.shape
    soundfile.write(tmp_path / "duet.wav", audio, 22_050, "FLOAT")
    condition = model.encode(query, 22_050)
    paths = model.separate_file(tmp_path / "duet.wav", tmp_path / "out", condition=condition, score=score)
    np.testing.assert_array_equal(read_audio(paths["condition"])[0], by_score)
    played = model.synthesize(audio, 22_050, query=query, score=score, semitones=0, iterations=2)
    assert len(played.audio) / 22_050 == pytest.approx(1.2, abs=0.1)
    assert np.abs(played.audio).max() <= 1.0
    with pytest.raises(ValueError, match=r"score has the shape \(2, 2\)"):
        model.separate(audio, 22_050, query=query, score=score[:, :2])
    with pytest.raises(ValueError, match="leave out residual"):
        model.separate(audio, 22_050, query=query, score=score, residual=True)


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (np.zeros((2, 11_025)), {"label": "violin"}, r"time comes first, \[T, C\]; give its transpose, audio\.T"),
        (np.zeros((11_025, 65)), {"label": "violin"}, "65 channels, more than 64"),
        (np.zeros(11_025, np.int64), {"label": "violin"}, "int64, whose full scale is unknown"),
        (np.full(11_025, np.nan), {"label": "violin"}, r"NaN or infinite at sample 0 \(0\.000 s\)"),
        (np.zeros(11_025), {"label": "vox"}, "unknown label 'vox'; this model knows bassoon, cello"),
        (np.zeros(11_025), {"labels": "violin"}, r"give label='violin' or labels=\['violin'\]"),
        (np.zeros(11_025), {"label": "violin", "track": 1}, "track selects a track of a score"),
        (np.zeros(11_025), {}, "nothing to separate: give a query, a label"),
        (np.zeros(11_025), {"query": np.zeros(50_000)}, "the query is silent"),
        (np.zeros(11_025), {"query": np.full((2, 11_025), 0.5)}, r"the query has the shape \(2, 11025\)"),
        (np.zeros(11_025), {"query": "none.wav"}, "none.wav: no such file"),
        (np.zeros(11_025), {"label": "violin", "iterations": -1}, "iterations must be 0 or more, not -1"),
        (np.zeros(11_025), {"label": "violin", "wiener": -1}, "wiener must be 0 or more, not -1"),
        (np.zeros(11_025), {"label": "violin", "video": "x.mp4"}, "is not conditioned on video"),
        (np.zeros(11_025), {"query": "x.wav", "score": "x.mid"}, "x.wav: no such file"),
    ],
)
def test_refusals(separator, audio, options, message):
    with pytest.raises(ValueError, match=message):
        separator.separate(audio, 22_050, **options)


def test_other_refusals(separator, bundles, mix, tmp_path):
    with pytest.raises(ValueError, match=f"bundled models are .*{MODEL}"):
        qsep_jax.load("nothing")
    with pytest.raises(ValueError, match="sample rate of the audio is 4000"):
        separator.separate(noise(100), 4_000, label="violin")
    with pytest.raises(ValueError, match="cannot separate by score"):
        separator.separate(noise(100), 16_000, condition=separator.mean("oboe"), score=np.array([[0, 1, 60]]))
    with pytest.raises(ValueError, match="cannot transcribe, it can separate"):
        separator.transcribe(noise(100), 16_000, query=noise(100))
    with pytest.raises(ValueError, match="is conditioned on labels: give a label"):
        qsep_jax.load(bundles["labels"]).separate(noise(6_000), RATE)
    with pytest.raises(ValueError, match="is not conditioned on queries, but on labels"):
        qsep_jax.load(bundles["labels"]).encode(noise(6_000), RATE)
    with pytest.raises(ValueError, match="would be written over an input"):
        separator.separate_file(mix, mix.parent, label="violin", query=mix, name="{stem}.{ext}")
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        separator.interpolate(separator.mean("violin"), separator.mean("cello"), 2.0)
    with pytest.raises(ValueError, match="unknown stem of the activations 'drums'; the stems are violin, cello"):
        separator.adapt(noise(32_000), 16_000, {"drums": [(0, 1)]}, labels=["violin", "cello"])
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = qsep_jax.laod
