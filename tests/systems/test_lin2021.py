"""Lin 2021: the losses of the five systems, what they compare, and the tasks of each system."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.lin2021 import get_config
from data_pipelines.schema import CLASSES, NOTES, OTHERS, QUERIES, SOURCES
from qsep_jax.models.msi import MSI
from qsep_jax.systems.lin2021 import STREAM, Lin2021
from tests.variables import variables_of

KEY = jax.random.key(0)


def tiny(name: str) -> Lin2021:
    """A system with two levels."""
    system: Lin2021 = get_config(f"{name},debug").system  # pyright: ignore[reportAssignmentType]
    return dataclasses.replace(system, channels=(4, 8))


SYSTEMS = {name: tiny(name) for name in ("amt", "mss", "multitask", "msi", "msi_dis")}
TINY = SYSTEMS["msi"]


@pytest.fixture(scope="module")
def batch():
    return TINY.noise(np.random.default_rng(0), 2)[STREAM]


@partial(jax.jit, static_argnums=0)
def task_loss(system, variables, batch):
    value, aux = system.task_loss(variables, batch, KEY)
    return value, aux.metrics


@partial(jax.jit, static_argnums=0)
def query_loss(system, variables, batch):
    return system.query_loss(variables, batch, KEY)[0]


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("amt", {"transcription"}),
        ("mss", {"separation"}),
        ("multitask", {"separation", "transcription"}),
        ("msi", {"separation", "transcription"}),
        ("msi_dis", {"translation", "transcription"}),
    ],
)
def test_the_losses_of_the_five_systems(name, terms, batch):
    system = SYSTEMS[name]
    total, losses = task_loss(system, variables_of(system), batch)
    assert set(losses) == terms
    assert total == pytest.approx(float(sum(losses.values())), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("amt", ("transcribe",)),
        ("mss", ("separate",)),
        ("multitask", ("separate", "transcribe")),
        ("msi", ("separate", "transcribe", "separate_by_score", "synthesize")),
    ],
)
def test_the_tasks_of_each_system(name, tasks):
    assert SYSTEMS[name].tasks == tasks


def test_other_tasks_are_refused():
    mixture, latent = jnp.zeros((1, TINY.chunk_samples, 1)), jnp.zeros((1, TINY.latent_size))
    with pytest.raises(ValueError, match=r"cannot separate \(decoding = nothing.*it can transcribe"):
        SYSTEMS["amt"].separate({}, mixture, latent)
    with pytest.raises(ValueError, match="cannot transcribe"):
        SYSTEMS["mss"].transcribe({}, mixture, latent)
    with pytest.raises(ValueError, match="cannot synthesize"):
        SYSTEMS["multitask"].synthesize({}, mixture, latent, jnp.zeros((1, TINY.frames, CLASSES)))


def test_timbre_is_that_of_the_second_mixture_and_notes_are_those_of_the_first(batch):
    """Only MSI-DIS takes `others`; its transcription does not depend on them."""
    other = {**batch, OTHERS: batch[OTHERS][::-1]}
    for name, depends in (("msi", False), ("msi_dis", True)):
        variables = variables_of(SYSTEMS[name])
        (total, terms), (changed, again) = (task_loss(SYSTEMS[name], variables, data) for data in (batch, other))
        assert (abs(changed - total) > 1e-6) == depends
        assert again["transcription"] == pytest.approx(float(terms["transcription"]), abs=1e-6)


def test_only_the_target_is_shifted_in_the_second_mixture_of_the_paper(batch):
    """With `target` and unshifted sources, the second mixture is the first one, for each of the two sources."""
    system = dataclasses.replace(SYSTEMS["msi_dis"], second_mixture="target")
    variables = variables_of(SYSTEMS["msi_dis"])
    same = {**batch, OTHERS: batch[SOURCES]}
    assert task_loss(system, variables, same)[1]["translation"] == pytest.approx(
        float(task_loss(SYSTEMS["msi_dis"], variables, same)[1]["translation"]), rel=1e-4
    )
    both, target = (task_loss(variant, variables, batch)[0] for variant in (SYSTEMS["msi_dis"], system))
    assert abs(both - target) > 1e-6


def test_the_order_of_the_sources_does_not_matter(batch):
    swapped = {name: leaf[:, ::-1] for name, leaf in batch.items()}
    variables = variables_of(TINY)
    assert task_loss(TINY, variables, swapped)[0] == pytest.approx(
        float(task_loss(TINY, variables, batch)[0]), rel=1e-4
    )
    assert query_loss(TINY, variables, swapped) == pytest.approx(float(query_loss(TINY, variables, batch)), rel=1e-4)


def squared(a, b):
    return np.mean((a - b) ** 2)


def euclidean(a, b):
    return np.sqrt(np.sum((a - b) ** 2))


@pytest.mark.parametrize(
    ("clips", "form", "distance", "triplets"),
    [
        # Instrument and clip of anchor, positive and negative. In the code, the two negative pairs differ.
        (4, "squared", squared, [((0, 0), (0, 1), (1, 1)), ((1, 0), (1, 1), (0, 1))]),
        (3, "norm", euclidean, [((0, 0), (0, 1), (1, 0))]),
    ],
)
def test_the_pairs_of_the_query_loss(clips, form, distance, triplets, monkeypatch):
    """The published losses, written out. The latents are near each other, so that every negative pair counts."""
    latents = np.random.default_rng(0).normal(0.0, 0.03, (3, 2, 2, TINY.latent_size)).astype(np.float32)
    expected = [
        distance(q[anchor], q[same]) + max(TINY.margin - distance(q[anchor], q[other]), 0.0)
        for q in latents
        for anchor, same, other in triplets
    ]
    system, variables = dataclasses.replace(TINY, query_clips=clips, query_form=form), variables_of(TINY)
    monkeypatch.setattr(MSI, "embed", lambda networks, magnitude, train: latents.reshape(-1, TINY.latent_size))
    with jax.disable_jit():
        loss = system.query_loss(variables, TINY.noise(np.random.default_rng(0), 3)[STREAM], KEY)[0]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_equal_queries_cost_the_margin_and_three_clips_have_one_anchor(batch):
    variables = variables_of(TINY)
    equal = {**batch, QUERIES: jnp.broadcast_to(batch[QUERIES][:1, :1, :1], batch[QUERIES].shape)}
    assert query_loss(TINY, variables, equal) == pytest.approx(0.125, abs=1e-5)
    three = dataclasses.replace(TINY, query_clips=3)
    queries = batch[QUERIES].copy()
    queries[:, 1, 1] *= 2.0 + np.sin(np.arange(queries.shape[3]))[:, None]
    changed = {**batch, QUERIES: queries}
    # With three clips, only batch statistics depend on the fourth clip: the distances of the anchor hardly change.
    changes = [
        abs(query_loss(system, variables, changed) - query_loss(system, variables, batch)) for system in (TINY, three)
    ]
    assert changes[1] < changes[0]


def test_the_query_phase_trains_the_query_net_only():
    query, tasks = TINY.phases()
    assert (query.name, query.trainable, query.streams) == ("query", ("query_net",), (STREAM,))
    assert set(tasks.trainable) == {
        "query_net",
        "encoder",
        "transcriber",
        "decoder",
        "timbre_filter",
        "pitch_extractor",
    }
    (joint,) = dataclasses.replace(TINY, joint=True).phases()
    assert set(joint.trainable) == set(tasks.trainable)


def test_both_phases_update_their_running_statistics(batch):
    variables = variables_of(TINY)
    for loss, networks in ((TINY.query_loss, {"query_net"}), (TINY.task_loss, set(variables["batch_stats"]))):
        _, aux = jax.jit(loss)(variables, batch, KEY)
        after = aux.updates["batch_stats"]
        assert {
            name
            for name, tree in variables["batch_stats"].items()
            if not jax.tree.all(jax.tree.map(np.array_equal, tree, after[name]))
        } == networks


def test_the_transcription_loss_depends_on_the_notes(batch):
    variables, silent = variables_of(TINY), {**batch, NOTES: jnp.zeros_like(batch[NOTES])}
    assert task_loss(TINY, variables, silent)[1]["transcription"] != pytest.approx(
        float(task_loss(TINY, variables, batch)[1]["transcription"]), rel=1e-3
    )


def test_channels_are_separated_independently():
    variables = variables_of(TINY)
    mixture = jax.random.normal(KEY, (1, TINY.chunk_samples, 2))
    latent = jax.random.uniform(KEY, (1, TINY.latent_size))
    roll = jax.nn.one_hot(jnp.full((1, TINY.frames), 40), CLASSES)
    for separate in (TINY.separate, partial(TINY.separate_by_score, roll=roll)):
        separate = jax.jit(separate)
        stereo = separate(variables, mixture, latent)
        for channel in range(2):
            mono = separate(variables, mixture[..., channel : channel + 1], latent)
            np.testing.assert_allclose(stereo[..., channel], mono[..., 0], atol=1e-5)


def test_shapes_of_transcription_and_synthesis():
    variables = variables_of(TINY)
    mixture = jax.random.normal(KEY, (2, TINY.chunk_samples, 1))
    latent = jax.random.uniform(KEY, (2, TINY.latent_size))
    roll = jax.jit(TINY.transcribe)(variables, mixture, latent)
    assert roll.shape == (2, TINY.frames, CLASSES)
    np.testing.assert_allclose(roll.sum(-1), 1.0, rtol=1e-5)
    magnitudes = jax.jit(TINY.synthesize)(variables, mixture, latent, roll)
    assert magnitudes.shape == (2, TINY.frames, TINY.window_length // 2 + 1)
    assert magnitudes.min() >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_length": 68}, "must give whole numbers"),
        ({"fft_length": 68}, "must give whole numbers"),
        ({"fft_length": 32}, "at least window_length = 64, not 32"),
        ({"frames": 2}, "needs 4 frames, not 2"),
        ({"decoding": "nothing", "transcription": False}, "has no task"),
        ({"transcription": False}, "set transcription"),
        ({"decoding": "skips", "translation_invariance": True}, "needs decoding = disentangled, not skips"),
    ],
)
def test_contradictory_fields_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_the_published_settings_are_the_defaults():
    system = Lin2021()
    assert (system.sample_rate, system.window_length, system.hop_length, system.frames) == (16_000, 2048, 160, 300)
    assert (system.margin, system.latent_size, system.frame_rate) == (0.125, 6, 100.0)
    optimizer = system.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.b1, optimizer.b2) == ("amsgrad", 5e-4, 0.9, 0.999)
    train = get_config("").train
    assert (train.steps, train.batch_size) == (104_000, 12)


def test_the_variant_with_the_published_tracks():
    (stream,) = get_config("msi,published").data.streams.values()
    assert stream.corpora == ("urmp_published",)
    with pytest.raises(ValueError, match="not of chamber_shifted"):
        get_config("msi,published,small")


def test_the_variant_paper_with_zero_padded_windows(batch):
    """One update for the sum of all losses; separation keeps the length, and magnitudes have all bins."""
    system: Lin2021 = tiny("msi,paper")
    assert (system.window_length, system.bins) == (64, 64)
    (phase,) = system.phases()
    variables = variables_of(system)
    total, aux = jax.jit(phase.loss)(variables, batch, KEY)
    assert set(aux.metrics) == {"query", "separation", "transcription"}
    assert total == pytest.approx(float(sum(aux.metrics.values())), rel=1e-5)
    mixture = jax.random.normal(KEY, (1, system.chunk_samples, 1))
    latent = jax.random.uniform(KEY, (1, system.latent_size))
    assert jax.jit(system.separate)(variables, mixture, latent).shape == (1, 1, system.chunk_samples, 1)
    roll = jax.nn.one_hot(jnp.full((1, system.frames), 40), CLASSES)
    magnitudes = jax.jit(system.synthesize)(variables, mixture, latent, roll)
    assert magnitudes.shape == (1, system.frames, 65)


@pytest.mark.parametrize("fft_length", [0, 2 * TINY.window_length])
def test_analysis_and_synthesis_reconstruct_the_mixture(fft_length, monkeypatch):
    """Where the networks return the magnitudes of the mixture, `separate` returns the mixture."""
    monkeypatch.setattr(Lin2021, "_infer", lambda system, variables, magnitude, condition, roll: (magnitude, None))
    mixture = np.sin(0.5 * np.arange(TINY.chunk_samples, dtype=np.float32))[None, :, None]
    system = dataclasses.replace(TINY, fft_length=fft_length)
    estimate = system.separate({}, jnp.asarray(mixture), jnp.zeros((1, TINY.latent_size)))[:, 0]
    np.testing.assert_allclose(estimate[:, 64:-64], mixture[:, 64:-64], atol=2e-3)
