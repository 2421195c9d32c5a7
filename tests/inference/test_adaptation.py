"""Adaptation to songs: which parameters change, the losses, and that songs do not depend on each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.schema import ACTIVE, MIXTURE, UNIT
from qsep_jax.inference.adaptation import Song, adapt, changed_parameters, count_updates, with_parameters
from qsep_jax.inference.model import Model
from qsep_jax.runs.experiment import load_config
from qsep_jax.systems import one_shot
from qsep_jax.systems.one_shot import CONDITION, Adaptation
from qsep_jax.training.partition import select
from tests.experiments import ROOT

RATE = 8_000
EXPERIMENT = load_config(f"{ROOT / 'configs' / 'cantisani2021.py'}:debug")
SYSTEM = EXPERIMENT.system
# A higher learning rate and a smooth loss, so that errors of rounding are not amplified.
QUICK = dataclasses.replace(SYSTEM.adaptation.optimizer, learning_rate=1e-3)
SMOOTH = dataclasses.replace(SYSTEM.adaptation, epochs=5, hop=0.5, smoothness=0.05, optimizer=QUICK)


@pytest.fixture(scope="module")
def model():
    return Model(SYSTEM, jax.jit(lambda: SYSTEM.init(jax.random.key(0), {}))())


def song(number: int, seconds: float = 2.5, stems: int = 4, channels: int = 2) -> Song:
    rng = np.random.default_rng(number)
    samples = round(seconds * RATE)
    active = np.ones((stems, samples), bool)
    active[number % stems, : samples // 2] = False
    return Song(f"song{number}", rng.normal(0, 0.1, (samples, channels)).astype(np.float32), active)


@pytest.mark.slow
def test_a_group_of_songs_gives_the_results_of_single_songs(model):
    songs = [song(0), song(1, 2.0), song(2)]  # 5, 4 and 5 chunks, five epochs
    single = [next(adapt(model, [item], SMOOTH)) for item in songs]
    assert [len(result.losses["loss"]) for result in single] == [25, 20, 25]
    for how in ("map", "vmap"):
        for expected, result in zip(single, adapt(model, songs, SMOOTH, together=3, how=how), strict=True):
            assert expected.name == result.name
            assert result.skipped == 0
            np.testing.assert_allclose(expected.losses["loss"], result.losses["loss"], rtol=1e-5)
            for path, leaf in expected.parameters.items():
                assert np.linalg.norm(result.parameters[path] - leaf) <= 1e-4 * np.linalg.norm(leaf), path


def test_only_trained_parameters_change_and_a_repetition_gives_the_same_bits(model):
    (first,), (second,) = (list(adapt(model, [song(0)], SMOOTH)) for _ in range(2))
    trainable = select(model.variables["params"], SMOOTH.trainable)
    assert first.parameters.keys() == trainable.keys()
    for path, leaf in first.parameters.items():
        np.testing.assert_array_equal(leaf, second.parameters[path])
    changed = changed_parameters(model, first.parameters)
    assert len(changed) > 0.8 * len(trainable)
    adapted = with_parameters(model, changed)
    for path, leaf in select(model.variables["params"], ("tasnet",)).items():
        after = select(adapted.variables["params"], ("tasnet",))[path]
        assert np.array_equal(leaf, after) == (path not in changed)


def test_changed_parameters_are_those_that_differ_in_a_bit(model):
    params = select(model.variables["params"], ("tasnet/decoder", "tasnet/encoder"))
    arrays = {path: np.array(leaf) for path, leaf in params.items()}
    assert changed_parameters(model, arrays) == {}
    arrays["tasnet/decoder"][0, 0] = np.nextafter(arrays["tasnet/decoder"][0, 0], np.float32(9))
    assert changed_parameters(model, arrays).keys() == {"tasnet/decoder"}


def test_the_loss_decreases(model):
    """The first five updates of Ranger are plain momentum, so this needs a high learning rate and many epochs."""
    quicker = dataclasses.replace(QUICK, learning_rate=5e-3)
    settings = dataclasses.replace(SMOOTH, epochs=20, trainable=SYSTEM.adaptation_presets()["l1"], optimizer=quicker)
    (result,) = adapt(model, [song(3)], settings)
    losses, silent = result.losses["loss"], result.losses["silent"]
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()
    assert silent[-5:].mean() < silent[:5].mean()


@pytest.mark.slow
def test_no_update_since_the_last_synchronisation_is_lost(model):
    """Ranger's slow copy has none of 5 updates, which are all of a short song, and only the first 6 of 7 or 8."""

    def parameters_after(updates: int) -> dict[str, np.ndarray]:
        settings = dataclasses.replace(SYSTEM.adaptation, epochs=updates)
        (result,) = adapt(model, [song(0, 0.5)], settings)
        assert (len(result.losses["loss"]), settings.optimizer.lookahead) == (updates, 6)
        return result.parameters

    results = {updates: parameters_after(updates) for updates in (5, 6, 7, 8)}
    assert len(changed_parameters(model, results[5])) > 0.8 * len(results[5])
    for before, after in ((6, 7), (7, 8)):
        moved = [not np.array_equal(results[before][path], leaf) for path, leaf in results[after].items()]
        assert np.mean(moved) > 0.8


class Fixed:
    """A substitute for a system that returns given estimates, scaled by its only parameter."""

    def __init__(self, estimates):
        self.estimates = estimates

    def separate(self, variables, mixture, condition):
        return variables["params"]["net"]["scale"] * jnp.asarray(self.estimates)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("gated", lambda y, s, h: np.abs(y - (h * s).sum(1)).mean() + 0.3 * np.abs((1 - h) * s).mean((0, 2, 3)).sum()),
        (
            "each",
            lambda y, s, h: (
                np.abs(h * s - y[:, None]).mean((0, 2, 3)).sum() + 0.3 * np.abs((1 - h) * s).mean((0, 2, 3)).sum()
            ),
        ),
        ("mixture", lambda y, s, h: np.abs(y - s.sum(1)).mean()),
    ],
)
def test_losses_follow_their_formulas(kind, formula):
    rng = np.random.default_rng(0)
    mixture, estimates = rng.normal(size=(1, 12, 2)), rng.normal(size=(1, 3, 12, 2))
    active = rng.random((1, 3, 12, 1)) < 0.5
    phase = one_shot.phase(Fixed(estimates), Adaptation(("net",), reconstruction=kind, weight=0.3))
    batch = {MIXTURE: jnp.asarray(mixture), ACTIVE: jnp.asarray(active), UNIT: jnp.array([0.5])}
    variables = {"params": {"net": {"scale": jnp.ones(())}}}
    loss, _ = phase.loss(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, formula(mixture / 0.5, estimates / 0.5, active), rtol=1e-6)


def test_the_weight_is_a_quarter_of_the_published_one():
    """γ of the published code times the mean over four sources equals λ times their sum."""
    silent = np.random.default_rng(0).random((2, 4, 10, 2))
    assert np.isclose(Adaptation(("net",)).weight * silent.mean((0, 2, 3)).sum(), 1.0 * silent.mean())


def test_a_query_based_system_is_adapted_by_its_conditions():
    class Scaled:
        """A substitute for a query-based system: the mixture times the condition."""

        sample_rate, chunk_samples = RATE, 4_000

        def separate(self, variables, mixture, condition):
            return (condition[:, :1, None] * mixture)[:, None]

    conditions = np.array([[0.9], [0.3]], np.float32)
    settings = Adaptation((CONDITION,), seconds=0.0, hop=0.25, epochs=40, weight=1.0)
    settings = dataclasses.replace(settings, optimizer=dataclasses.replace(QUICK, learning_rate=0.02, centralize=False))
    active = np.array([[True], [False]]).repeat(8_000, 1)
    mono = Song("mono", song(0, 1.0, channels=1).mixture, active)
    (result,) = adapt(Model(Scaled(), {"params": {}}), [mono], settings, conditions=conditions)
    scales = result.parameters[CONDITION][:, 0]
    assert abs(scales[0] - 1.0) < 0.05
    assert abs(scales[1]) < 0.1


def test_count_updates_ignores_an_incomplete_last_chunk(model):
    assert count_updates([song(0, 2.6), song(1, 2.5)], SYSTEM, dataclasses.replace(SMOOTH, epochs=2)) == 2 * (5 + 5)
    assert count_updates([song(0)], SYSTEM, dataclasses.replace(SMOOTH, epochs=1, pitch_copies=2)) == 15


@pytest.mark.slow
def test_pitch_shifts_of_a_song_do_not_depend_on_others(model):
    settings = dataclasses.replace(SMOOTH, epochs=1, hop=1.0, pitch_copies=1)
    first, second = song(0), song(1)
    together = list(adapt(model, [second, first], settings, together=2))[1]
    (alone,) = adapt(model, [first], settings)
    np.testing.assert_allclose(alone.losses["loss"], together.losses["loss"], rtol=1e-5)
    (other,) = adapt(model, [first], settings, seed=1)
    assert not np.allclose(alone.losses["loss"], other.losses["loss"], rtol=1e-4)
    assert alone.losses["loss"][0] == other.losses["loss"][0]  # the first chunk is not shifted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixture": np.zeros((20_000, 2), np.float32)}, "song0 is silent: there is nothing to adapt to"),
        ({"mixture": np.ones((3_000, 2), np.float32)}, "song0 is 0.38 s long, shorter than the chunks of 0.50 s"),
    ],
)
def test_short_and_silent_songs_are_refused(model, change, message):
    with pytest.raises(ValueError, match=message):
        list(adapt(model, [dataclasses.replace(song(0), **change)], SMOOTH))


def test_invalid_settings_and_parameters_are_refused(model):
    with pytest.raises(ValueError, match=r"no parameter is at or below 'tasnet/nothing'"):
        list(adapt(model, [song(0)], dataclasses.replace(SMOOTH, trainable=("tasnet/nothing",))))
    for field, value in {"epochs": 0, "hop": 0.0, "weight": -1.0, "seconds": -1.0, "pitch_copies": -1}.items():
        with pytest.raises(ValueError, match=rf"adaptation\.{field} must be"):
            dataclasses.replace(SMOOTH, **{field: value})
    with pytest.raises(ValueError, match=r"trainable is empty"):
        Adaptation(())
    with pytest.raises(ValueError, match=r"no network 'strange'"):
        with_parameters(model, {"strange/leaf": np.zeros(1)})
