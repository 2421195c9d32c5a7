"""Evaluation on segments: separate processing of each, its Wiener filter, tables, and continuation after a stop."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.prepared.corpus import open_corpus
from qsep_jax import evaluate
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.dsp.wiener import EPSILON
from qsep_jax.evaluation import segments
from qsep_jax.evaluation.segment_report import by_segment
from qsep_jax.inference import cues
from qsep_jax.inference.model import Model
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.bundle import Bundle
from qsep_jax.systems.capabilities import with_frames
from qsep_jax.systems.stoller2018 import Stoller2018
from tests.commands import command, refused
from tests.pieces import ON_LABELS, ON_VIDEO, PIECES, RATE, SAMPLES, STEMS, UNCONDITIONED, write_bundle, write_pieces
from tests.variables import variables_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses a deprecated namespace of SciPy
    import norbert

transform = jax.jit(stft, static_argnums=(1, 2))
inverse = jax.jit(istft, static_argnums=(1, 2))
refine = jax.jit(segments.filter_estimates, static_argnums=2)
SYSTEMS = {"none": UNCONDITIONED, "labelled": ON_LABELS, "seeing": ON_VIDEO}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_pieces(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def bundles(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: write_bundle(system, folder / name, root) for name, system in SYSTEMS.items()}


@pytest.fixture(scope="module")
def corpus(root):
    return open_corpus(root, "pieces", RATE, "test", {stem: (stem,) for stem in STEMS}, 1)


def spectrogram(channels: int, peak: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 9, channels)) + 1j * rng.normal(size=(20, 9, channels))
    return (peak * x / np.abs(x).max()).astype(np.complex64)


@pytest.mark.parametrize("iterations", [0, 1, 2])
@pytest.mark.parametrize(("channels", "peak"), [(1, 9.0), (1, 300.0), (2, 9.0), (2, 300.0)])
def test_filter_equals_norbert(channels, peak, iterations):
    """The filter starts from magnitudes of the estimates, whose sum differs from the magnitude of the mixture."""
    mixture, rng = spectrogram(channels, peak), np.random.default_rng(1)
    magnitudes = (rng.uniform(0, 1, (13, 20, 9, 1)) ** 3 * np.abs(mixture)).astype(np.float32)
    magnitudes[5] = 0.0
    filtered = refine(magnitudes, mixture, iterations)
    v = np.moveaxis(magnitudes, 0, -1).astype(np.float64)
    expected = np.moveaxis(norbert.wiener(v, mixture.astype(np.complex128), iterations, eps=EPSILON), -1, 0)
    np.testing.assert_allclose(filtered, expected, rtol=0, atol=1e-4 * peak)
    assert np.abs(expected.sum(0) - mixture).max() < 0.02 * peak


@pytest.mark.parametrize("name", SYSTEMS)
def test_segments_are_processed_separately(bundles, corpus, name):
    """The estimates are the outputs of the system for all stems, and the filter starts from their magnitudes."""
    model = Bundle(bundles[name]).load()[1]

    def condition_of(track):
        return cues.from_corpus(model, corpus, cues.stem_excerpts(corpus, track))

    estimators = segments.model_estimators(model, condition_of, (0, 2, 0))
    estimators |= segments.oracle_estimators(model, ("mixture", "irm"))
    assert list(estimators) == ["model_w0", "model_w2", "mixture", "irm"]
    tracks = {track.name: track for track in segments.corpus_segments(corpus, model.system, estimators, {})}
    trio = tracks["trio"].references()
    assert {stem: (audio.shape, bool(audio.any())) for stem, audio in trio.items()} == {
        stem: ((2 * SAMPLES, 1), stem != "violin") for stem in STEMS
    }
    assert len(tracks["short"].references()["cello"]) == SAMPLES
    assert tracks["trio"].facts["sources"] == ["bassoon", "cello", "flute"]
    estimates = {kind: estimate(trio) for kind, estimate in tracks["trio"].estimates.items()}
    condition, mixture = condition_of("trio"), sum(trio.values())
    separate, spectrograms = jax.jit(model.system.separate), jax.jit(model.system.spectrograms)
    for segment in range(2):
        part = slice(segment * SAMPLES, (segment + 1) * SAMPLES)
        at_segment = condition(part.start) if callable(condition) else condition
        outputs = separate(model.variables, mixture[None, part], at_segment)[0, :, :, 0]
        segment_estimates = {kind: np.stack([estimates[kind][stem][part, 0] for stem in STEMS]) for kind in estimates}
        np.testing.assert_allclose(segment_estimates["model_w0"], outputs, atol=1e-5)
        spectrum = transform(mixture[part].T, 126, 32)
        magnitudes = np.abs(spectrograms(model.variables, mixture[None, part], at_segment)[0])
        shares = refine(magnitudes, spectrum[0, ..., None], 2)
        np.testing.assert_allclose(segment_estimates["model_w2"], inverse(shares[..., 0], 126, 32), atol=1e-4)
        np.testing.assert_array_equal(segment_estimates["mixture"], np.tile(mixture[part].T, (4, 1)))
        sources = np.abs(transform(np.stack([trio[stem][part, 0] for stem in STEMS]), 126, 32))
        np.testing.assert_allclose(
            segment_estimates["irm"], inverse(sources / sources.sum(0)[None] * spectrum, 126, 32), atol=1e-4
        )
    assert not estimates["irm"]["violin"].any()
    duet = tracks["duet"].estimates["model_w0"](tracks["duet"].references())
    assert len(duet["violin"]) == 3 * SAMPLES


def test_a_system_that_estimates_spectrograms(corpus):
    """The filter starts from the spectrograms of the network, not from those of its waveforms."""

    class Masks(type(UNCONDITIONED)):
        def spectrograms(self, variables, mixture, condition):
            spectrum = stft(mixture[..., 0], self.window_length, self.hop_length)
            return jnp.stack([share * spectrum for share in (0.1, 0.0, 0.3, 0.6)], 1)[..., None]

    system = Masks(**{name: getattr(UNCONDITIONED, name) for name in UNCONDITIONED.__dataclass_fields__})
    model = Model(system, variables_of(UNCONDITIONED))
    (track, *_) = segments.corpus_segments(corpus, system, segments.model_estimators(model, lambda track: (), (1,)), {})
    references = track.references()
    estimates, mixture = track.estimates["model_w1"](references), sum(references.values())
    for stem, share in zip(STEMS, np.array([0.1, 0, 0.3, 0.6]) ** 2 / 0.46, strict=True):
        np.testing.assert_allclose(estimates[stem], share * mixture, atol=5e-3)


def options(bundle, out):
    return ("segments", "--workdir", bundle, "--out", out)


@pytest.fixture(scope="module")
def evaluated(bundles, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.console._set_up", lambda: None)
        assert command(evaluate, *options(bundles["labelled"], out)) == 0
    return out


def test_rows_and_table(evaluated):
    rows = json.loads((evaluated / "results.json").read_text(), parse_constant=pytest.fail)
    keys = {"run", "corpus", "split", "protocol", "estimate", "stem", "sources", "metric"}
    assert all(row.keys() == keys | {"mean", "std", "median", "ci95", "count"} for row in rows)
    assert {row["estimate"] for row in rows} == {"model_w0", "model_w2", "mixture", "irm"}
    cells = {(row["estimate"], row["stem"], row["sources"], row["metric"]): row for row in rows}
    # The duet has three segments, with a silent violin in one of them; "short" has one segment, and the trio two.
    assert cells["model_w0", "all", None, "SI-SDR"]["count"] == (3 + 2) + 2 + 3 * 2
    assert cells["model_w0", "all", None, "PES"]["count"] == 4 * 6 - 13
    assert cells["model_w0", "all", None, "SDR"]["count"] == 2 * 2 + 2 + 3 * 2
    assert [cells["irm", "all", sources, "SI-SDR"]["count"] for sources in (2, 3)] == [5 + 2, 6]
    assert [cells["irm", stem, None, "SI-SDR"]["count"] for stem in STEMS] == [3, 5, 3, 2]
    assert cells["irm", "all", None, "SI-SDR"]["mean"] > cells["mixture", "all", None, "SI-SDR"]["mean"] + 5
    assert cells["irm", "all", None, "PES"]["mean"] == pytest.approx(-80.0, abs=0.01)
    row = cells["mixture", "cello", None, "SI-SDR"]
    files = [json.loads((evaluated / "tracks" / "mixture" / f"{name}.json").read_text()) for name in PIECES]
    values = [
        frame["metrics"]["SI-SDR"]
        for content in files
        for target in content["targets"]
        if target["name"] == "cello"
        for frame in target["frames"]
        if np.isfinite(frame["metrics"]["SI-SDR"])
    ]
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    table = (evaluated / "table.md").read_text().splitlines()
    assert table[0].startswith("pieces, test split, 3 tracks; segments of 0.256 s")
    assert table[2] == "| stems | estimate | sounding | silent | SI-SDR | SD-SDR | PES | SDR | SIR | SAR |"
    assert table[4].startswith("| all | model_w0 | 13 | 11 | ")
    heads = list(dict.fromkeys(line.split(" | ")[0] for line in table[4:]))
    assert heads == ["| all", "| all in tracks of 2", "| all in tracks of 3", *(f"| {stem}" for stem in STEMS)]


def test_scores_are_stored_for_each_segment(evaluated):
    """Paired tests need the score of each stem and segment."""
    content = TrackScores.from_file(evaluated / "tracks" / "model_w2" / "duet.json")
    assert list(content.stems) == list(STEMS)
    assert all(len(values) == 3 for stem in content.stems.values() for values in stem.values())
    assert np.isnan(content.stems["violin"]["SI-SDR"]).tolist() == [False, True, False]
    assert content.facts["sources"] == ["cello", "violin"]
    pairs = by_segment([content], "model_w2")
    assert pairs["cello", "duet/2"] == content.stems["cello"]["SI-SDR"][2]
    assert by_segment([content], "mixture") == {}


@pytest.mark.slow
def test_segments_of_another_length(bundles, tmp_path):
    """Of half the training length: twice as many segments, of estimates by the same network."""
    assert command(evaluate, *options(bundles["none"], tmp_path), "--frames", 32, "--oracle") == 0
    assert "segments of 0.128 s" in (tmp_path / "table.md").read_text()
    content = TrackScores.from_file(tmp_path / "tracks" / "model_w0" / "duet.json")
    assert all(len(values) == 6 for stem in content.stems.values() for values in stem.values())


@pytest.mark.parametrize("name", SYSTEMS)
def test_longer_segments_are_estimated_by_the_same_network(bundles, corpus, name):
    """The estimates of a segment of twice the training length are those of the trained system, given that length."""
    trained = Bundle(bundles[name]).load()[1]
    model = Model(with_frames(trained.system, 128), trained.variables)

    def condition_of(track):
        return cues.from_corpus(model, corpus, cues.stem_excerpts(corpus, track))

    estimators = segments.model_estimators(model, condition_of, (0,))
    tracks = segments.corpus_segments(corpus, model.system, estimators, {})
    (trio,) = [track for track in tracks if track.name == "trio"]
    references, condition = trio.references(), condition_of("trio")
    mixture = sum(references.values())
    assert len(mixture) == 2 * SAMPLES
    at_start = condition(0) if callable(condition) else condition
    outputs = jax.jit(trained.system.separate)(trained.variables, mixture[None], at_start)[0]
    halves = [
        jax.jit(trained.system.separate)(trained.variables, mixture[None, start : start + SAMPLES], at_start)[0]
        for start in (0, SAMPLES)
    ]
    estimates = np.stack(list(trio.estimates["model_w0"](references).values()))
    np.testing.assert_allclose(estimates, outputs, atol=1e-5)
    assert np.abs(estimates - np.concatenate(halves, axis=1)).max() > 1e-3  # they are not those of shorter segments


def test_lengths_that_a_model_does_not_take_are_refused(bundles, tmp_path, capsys):
    refused(
        capsys, "2 levels halve 64 bins and 33 frames", evaluate, *options(bundles["none"], tmp_path), "--frames", 33
    )
    with pytest.raises(ValueError, match=r"this model \(Stoller2018\) has segments of one length: leave out --frames"):
        with_frames(Stoller2018(), 64)


def test_an_evaluation_that_was_killed_continues(bundles, tmp_path, monkeypatch):
    scored, stop_after = [], 99

    def quick_score(self, references, estimates, rate):
        if len(scored) >= stop_after:
            raise KeyboardInterrupt
        scored.append(references.shape)
        levels = np.abs(references - 2 * estimates).reshape(len(STEMS), -1, SAMPLES).mean(2, dtype=float)
        return {name: number * levels for number, name in enumerate(self.metrics)}

    monkeypatch.setattr(Protocol, "score", quick_score)
    uninterrupted, interrupted = (
        options(bundles["labelled"], tmp_path / name) for name in ("uninterrupted", "interrupted")
    )
    assert command(evaluate, *uninterrupted) == 0
    assert len(scored) == 3 * 4
    scored.clear()
    stop_after = 5
    assert command(evaluate, *interrupted) == 130
    assert not (tmp_path / "interrupted" / "table.md").exists()
    stop_after = 99
    assert command(evaluate, *interrupted) == 0
    assert len(scored) == 3 * 4
    for name in ("table.md", "results.json"):
        assert (tmp_path / "interrupted" / name).read_text() == (tmp_path / "uninterrupted" / name).read_text()
    assert command(evaluate, *interrupted, "--wiener", 1, "--oracle", "ibm") == 0
    assert len(scored) == 3 * 6
    assert command(evaluate, *options(bundles["none"], tmp_path / "interrupted"), "--wiener", 1, "--tracks", 1) == 0
    assert len(scored) == 3 * 6 + 3  # those of another model


def test_comparison_of_models(bundles, tmp_path):
    arguments = options(bundles["none"], tmp_path)
    assert command(evaluate, *arguments, "--against", bundles["seeing"], "--tracks", 1, "--oracle", "mixture") == 0
    table = (tmp_path / "against.md").read_text()
    assert "SI-SDR of model_w2; pieces at 8000 Hz, test split" in table
    assert "| all | 5 |" in table


def test_models_that_cannot_be_evaluated_are_refused(bundles, run, tmp_path, capsys):
    refused(capsys, "segments are for models that estimate all stems", evaluate, *options(run, tmp_path))
    fields = {name: getattr(UNCONDITIONED, name) for name in UNCONDITIONED.__dataclass_fields__}
    root = Bundle(bundles["none"]).experiment().data.root
    narrow = write_bundle(type(UNCONDITIONED)(**{**fields, "stems": STEMS[:2]}), tmp_path / "narrow", root)
    message = "unknown label 'flute'; this model knows bassoon, cello"
    refused(capsys, message, evaluate, *options(narrow, tmp_path))
