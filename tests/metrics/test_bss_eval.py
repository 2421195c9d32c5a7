"""BSS Eval: version 4 against a direct least-squares fit (and museval, if installed), version 3 against mir_eval."""

import warnings

import numpy as np
import pytest

from qsep_jax.metrics.bss_eval import METRICS, bss_eval

RATE = 1000
FEW_TAPS = 96  # few enough for a direct fit


def sounds(kind: str, stems: int, samples: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw references, and estimates with leakage, a delay and noise."""
    rng = np.random.default_rng(seed)
    references = rng.normal(0.0, 0.1, (stems, samples, channels))
    if kind == "music":
        time = np.arange(samples)[:, None] / RATE
        for stem in references:
            stem *= 0.01
            stem += sum(
                np.sin(2 * np.pi * 97 * (1 + rng.random()) * n * time + rng.random(channels)) / n for n in (1, 2, 3)
            )
    estimates = references + 0.2 * np.roll(references, 1, axis=0) + rng.normal(0.0, 0.02, references.shape)
    estimates[0] = np.roll(estimates[0], 2, axis=0)
    return references, estimates


def delayed(signals: np.ndarray) -> np.ndarray:
    """Stack every channel with every delay: `[S, T, C]` → `[T + taps − 1, S · C · taps]`."""
    columns = signals.swapaxes(1, 2).reshape(-1, signals.shape[1])
    return np.stack(
        [np.pad(column, (lag, FEW_TAPS - 1 - lag)) for column in columns for lag in range(FEW_TAPS)], axis=1
    )


def bss_eval_directly(references: np.ndarray, estimates: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Compute version 4 by its definition: one matrix with all delays, one least-squares fit, then each frame."""
    stems, length, _ = references.shape
    scores = {name: np.empty((stems, length // window)) for name in METRICS}
    padded = np.pad(estimates, ((0, 0), (0, FEW_TAPS - 1), (0, 0)))
    for stem in range(stems):
        all_filters = np.linalg.lstsq(delayed(references), padded[stem], rcond=None)[0]
        own_filters = np.linalg.lstsq(delayed(references[stem : stem + 1]), padded[stem], rcond=None)[0]
        for frame in range(length // window):
            part = slice(frame * window, (frame + 1) * window)
            reference, estimate = (np.pad(a[stem, part], ((0, FEW_TAPS - 1), (0, 0))) for a in (references, estimates))
            matched = delayed(references[stem : stem + 1, part]) @ own_filters
            projected = delayed(references[:, part]) @ all_filters
            spatial, interference, artefacts = matched - reference, projected - matched, estimate - projected
            for name, (signal, distortion) in {
                "SDR": (reference, spatial + interference + artefacts),
                "ISR": (reference, spatial),
                "SIR": (matched, interference),
                "SAR": (projected, artefacts),
            }.items():
                scores[name][stem, frame] = 10 * np.log10(np.square(signal).sum() / np.square(distortion).sum())
    return scores


@pytest.mark.parametrize("channels", [1, 2])
def test_version_4_equals_its_definition(channels, monkeypatch):
    monkeypatch.setattr("qsep_jax.metrics.bss_eval.TAPS", FEW_TAPS)
    references, estimates = sounds("noise", 2, 3000, channels)
    expected, result = bss_eval_directly(references, estimates, RATE), bss_eval(references, estimates, RATE)
    assert set(result) == set(METRICS)
    for name in METRICS:
        assert result[name].shape == (2, 3)
        np.testing.assert_allclose(result[name], expected[name], atol=1e-6)


def test_linearly_dependent_references(monkeypatch):
    """One stem is in the centre of the stereo image, so its channels are equal; one is a delayed copy of another."""
    monkeypatch.setattr("qsep_jax.metrics.bss_eval.TAPS", FEW_TAPS)
    references, estimates = sounds("noise", 3, 3000, 2)
    references[0, :, 1] = references[0, :, 0]
    references[2] = np.roll(references[1], 2, axis=0)
    references[:, :FEW_TAPS] = references[:, -FEW_TAPS:] = 0
    expected, result = bss_eval_directly(references, estimates, RATE), bss_eval(references, estimates, RATE)
    for name in METRICS:
        np.testing.assert_allclose(result[name], expected[name], atol=1e-6)


@pytest.mark.parametrize("kind", ["music", "noise"])
@pytest.mark.parametrize("channels", [1, 2])
def test_version_4_agrees_with_museval(kind, channels):
    museval = pytest.importorskip("museval.metrics", reason="museval needs an ffmpeg binary", exc_type=Exception)
    references, estimates = sounds(kind, 3, 4321, channels)
    references[1, RATE : 2 * RATE] = 0
    expected = museval.bss_eval(references, estimates, window=RATE, hop=RATE)
    result = bss_eval(references, estimates, RATE)
    for name, scores in zip(METRICS, expected, strict=False):
        np.testing.assert_array_equal(np.isnan(result[name]), np.isnan(scores))
        below = scores < 100
        np.testing.assert_allclose(result[name][below], scores[below], atol=1e-6 if name == "SDR" else 0.01)


@pytest.mark.parametrize("kind", ["music", "noise"])
def test_version_3_agrees_with_mir_eval(kind):
    from mir_eval.separation import bss_eval_sources

    references, estimates = sounds(kind, 3, 4000, 1)
    estimates = estimates[[2, 0, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a deprecation
        *expected, order = bss_eval_sources(references[..., 0], estimates[..., 0], True)
    result = bss_eval(references, estimates, RATE, "v3", metrics=("SDR", "SIR", "SAR"), permute=True)
    np.testing.assert_array_equal(result["permutation"], order)
    for name, scores in zip(("SDR", "SIR", "SAR"), expected, strict=True):
        assert result[name].shape == (3, 1)
        np.testing.assert_allclose(result[name][:, 0], scores, atol=1e-6 if name == "SDR" else 0.01)


def test_sdr_alone_equals_sdr_with_the_other_metrics():
    references, estimates = sounds("music", 2, 3500, 2)
    alone = bss_eval(references, estimates, RATE, metrics=("SDR",), window=0.5, hop=0.25)
    assert set(alone) == {"SDR"}
    assert alone["SDR"].shape == (2, 13)
    np.testing.assert_allclose(
        alone["SDR"], bss_eval(references, estimates, RATE, window=0.5, hop=0.25)["SDR"], atol=1e-9
    )


def test_a_signal_longer_than_a_block(monkeypatch):
    references, estimates = sounds("noise", 2, 5000, 1)
    whole = bss_eval(references, estimates, RATE)
    monkeypatch.setattr("qsep_jax.metrics.bss_eval._BLOCK", 1024)
    for name, scores in bss_eval(references, estimates, RATE).items():
        np.testing.assert_allclose(scores, whole[name], atol=1e-6)


@pytest.mark.parametrize("which", ["references", "estimates"])
def test_a_silent_frame_is_nan_for_all(which):
    signals = dict(zip(("references", "estimates"), sounds("noise", 3, 3000, 2), strict=True))
    signals[which][1, RATE : 2 * RATE] = 0
    for scores in bss_eval(**signals, sample_rate=RATE).values():
        np.testing.assert_array_equal(np.isnan(scores), [[False, True, False]] * 3)


@pytest.mark.parametrize("metrics", [METRICS, ("SDR",)])
def test_a_stem_that_is_all_zero_is_nan_and_the_others_are_scored_without_it(metrics):
    references, estimates = sounds("noise", 3, 2000, 1)
    without = bss_eval(references[[0, 2]], estimates[[0, 2]], RATE, metrics=metrics)
    references[1] = 0
    with pytest.warns(UserWarning, match="scored NaN: stem 1 of 3 is all zero"):
        result = bss_eval(references, estimates, RATE, metrics=metrics)
    for name in metrics:
        assert np.isnan(result[name][1]).all()
        np.testing.assert_allclose(result[name][[0, 2]], without[name], atol=1e-9)


def test_an_estimate_without_error_is_infinite():
    references, _ = sounds("noise", 2, 2000, 2)
    assert (bss_eval(references, references, RATE)["SDR"] == np.inf).all()
    assert (bss_eval(references, references, RATE, metrics=("SDR",))["SDR"] == np.inf).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "v5"}, "v3 or v4, not 'v5'"),
        ({"metrics": ("PES",)}, "metrics of v4 are SDR, ISR, SIR, SAR, not PES"),
        ({"version": "v3"}, "metrics of v3 are SDR, SIR, SAR, not ISR"),
        ({"version": "v3", "metrics": ("SDR",)}, "v3 scores mono sources, these have 2 channels"),
        ({"window": 0.0}, "at least a sample long, not 0.0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bss_eval(*sounds("noise", 2, 2000, 2), RATE, **options)


def test_unusable_signals_are_refused():
    references, estimates = sounds("noise", 2, 2000, 2)
    with pytest.raises(ValueError, match=r"must both be \[S, T, C\]"):
        bss_eval(references, estimates[:1], RATE)
    estimates[0, 5] = np.nan
    with pytest.raises(ValueError, match="the estimates hold NaN"):
        bss_eval(references, estimates, RATE)


def test_nothing_interferes_with_a_single_stem():
    """Also if all other stems are silent; the other metrics stay as they are."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((1, 3000, 1))
    estimate = reference + 0.1 * rng.standard_normal(reference.shape)
    for version in ("v3", "v4"):
        metrics = ("SDR", "SIR", "SAR")
        scores = bss_eval(reference, estimate, 1000, version, metrics=metrics, permute=version == "v3")
        assert np.isnan(scores["SIR"]).all()
        assert np.isfinite([scores["SDR"], scores["SAR"]]).all()
    silent = np.concatenate([reference, 0 * reference])
    with pytest.warns(UserWarning, match="stem 1 of 2 is all zero"):
        scores = bss_eval(silent, np.concatenate([estimate, estimate]), 1000, "v3", metrics=("SIR", "SDR"))
    assert np.isnan(scores["SIR"]).all()
    assert np.isfinite(scores["SDR"][0]).all()
