"""Stoller 2018: the streams of its phases, its losses example by example, and the context of its chunks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.stoller2018 import get_config
from data_pipelines.recipes.unpaired import SoloExcerpt
from data_pipelines.schema import MIXTURE, SOURCES, TARGET
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.inference.chunks import plan_of
from qsep_jax.systems.stoller2018 import CRITIC_MIXTURES, MIXTURES, PAIRED, Stoller2018

DEBUG: Stoller2018 = get_config("debug").system  # pyright: ignore[reportAssignmentType]
# Two halvings: 10 of 30 frames and 18 of 38 bins are estimated, of which the critics take 8 and 16.
TINY = dataclasses.replace(DEBUG, window_length=32, hop_length=16, channels=(2, 3, 4), critic_updates=1)
# A single critic compiles in half the time.
ONE = dataclasses.replace(TINY, critics=("accompaniment",))
KEY = jax.random.key(0)
WINDOW, HOP, CONTEXT, STEP = TINY.window_length, TINY.hop_length, 10, 4
SEPARATOR, CRITICS = "separator", "critics"
FOUR = ("vocals", "drums", "bass", "other")


def of_phases(critics: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {CRITICS: (CRITIC_MIXTURES, *critics), SEPARATOR: (PAIRED, MIXTURES)}


@pytest.mark.parametrize(
    ("variant", "critics", "expected"),
    [
        ("supervised", 0, {SEPARATOR: (PAIRED,)}),
        ("v", 1, of_phases(("vocals",))),
        ("va", 2, of_phases(("vocals", "accompaniment"))),
        ("", 2, of_phases(("vocals", "accompaniment"))),
        ("band,four", 4, of_phases(FOUR)),
        ("band,four,v", 1, of_phases(("vocals",))),
        ("band,four,supervised", 0, {SEPARATOR: (PAIRED,)}),
    ],
)
def test_variants_take_the_streams_that_they_need(variant, critics, expected):
    experiment = get_config(f"{variant},debug")
    phases = experiment.system.phases()
    assert {phase.name: phase.streams for phase in phases} == expected
    assert set(experiment.data.streams) == {stream for phase in phases for stream in phase.streams}
    assert [phase.repeats for phase in phases] == ([2, 1] if critics else [1])
    assert experiment.system.validation_streams == (PAIRED,)
    params = jax.eval_shape(lambda: experiment.system.init(KEY, {}))["params"]
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params.get(CRITICS, ()))} == ({critics} if critics else set())
    assert params[SEPARATOR]["sources"]["bias"].shape == (4 if "four" in variant else 2,)


def test_mixtures_and_sources_of_band_are_from_different_songs():
    streams = get_config("band,va").data.streams
    assert (streams[PAIRED].corpus, streams[PAIRED].first, streams[PAIRED].tracks) == ("band", 0, 5)
    for name in (MIXTURES, CRITIC_MIXTURES):
        assert (streams[name].corpus, streams[name].first, streams[name].tracks) == ("band_fluid", 0, 40)
    for stem in ("vocals", "accompaniment"):
        assert (streams[stem].corpus, streams[stem].first, streams[stem].tracks) == ("band_fluid", 40, 0)
        assert tuple(streams[stem].view) == (stem,)
        assert streams[stem].recipe == SoloExcerpt(absent="silent")


def test_gradients_are_finite_where_the_real_source_is_silent(params, batch):
    silent = batch | {stem: {TARGET: np.zeros_like(batch[stem][TARGET])} for stem in TINY.critics}
    gradients, _ = jax.jit(jax.grad(TINY.critic_loss, has_aux=True))({"params": params}, silent, KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients["params"][CRITICS]))


def test_instrumental_songs_are_in_a_corpus_of_their_own():
    experiment = get_config("band,instrumental")
    unpaired = {name: stream.corpus for name, stream in experiment.data.streams.items() if name != PAIRED}
    assert set(unpaired.values()) == {"band_fluid_instrumental"} == {experiment.evaluation.corpus}
    assert experiment.data.streams[PAIRED].corpus == "band"


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("v,va", "the variants v, va are different trainings"),
        ("four", "give band,four"),
        ("instrumental", "give band,instrumental"),
    ],
)
def test_contradictory_variants_are_refused(variant, message):
    with pytest.raises(ValueError, match=message):
        get_config(variant)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"critics": ("drums",)}, r"critics \('drums',\) must be different stems of"),
        ({"critics": ("vocals", "vocals")}, "must be different stems of"),
        ({"frames": 12}, "frames must be a power of two from 8 on, since critics halve it, not 12"),
        ({"frames": 4}, "frames must be a power of two from 8 on, since critics halve it, not 4"),
        ({"window_length": 100}, "window_length must be a power of two"),
        ({"critic_updates": 0}, "critic_updates must be at least 1, not 0"),
    ],
)
def test_impossible_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DEBUG, **fields)


def test_batches_have_an_axis_for_repeats():
    for updates in (1, 3):
        system = dataclasses.replace(TINY, critic_updates=updates)
        batch = system.noise(np.random.default_rng(0), 2)
        leading = (updates, 2) if updates > 1 else (2,)
        assert batch[CRITIC_MIXTURES][MIXTURE].shape == (*leading, system.chunk_samples, 1)
        assert batch["vocals"][TARGET].shape == (*leading, system.chunk_samples, 1)
        assert batch[MIXTURES][MIXTURE].shape == (2, system.chunk_samples, 1)


@pytest.fixture(scope="module")
def params():
    """Parameters of a separator with a positive estimate everywhere, and of critics with larger gradients."""
    fresh = jax.jit(lambda: TINY.init(KEY, {}))()["params"]
    sources = {**fresh[SEPARATOR]["sources"], "bias": jnp.array([0.5, 0.6])}
    return {
        SEPARATOR: {**fresh[SEPARATOR], "sources": sources},
        CRITICS: jax.tree.map(lambda leaf: 3.0 * leaf, fresh[CRITICS]),
    }


def of_one(params):
    """The parameters of `ONE`."""
    return {**params, CRITICS: jax.tree.map(lambda leaf: leaf[1:], params[CRITICS])}


@pytest.fixture(scope="module")
def batch():
    return TINY.noise(np.random.default_rng(0), 2)


def log_magnitude(audio: np.ndarray) -> np.ndarray:
    """Log magnitudes `[N, F]` of `[T, 1]`."""
    edge = (WINDOW - HOP) // 2
    padded = np.pad(audio[:, 0], edge, mode="reflect")
    frames = np.stack([padded[start : start + WINDOW] for start in range(0, len(audio), HOP)])
    return np.log1p(np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1]))).astype(np.float32)


@pytest.mark.parametrize("sides", ["one", "two"])
def test_the_critic_loss_is_that_of_the_paper(params, batch, sides):
    """The formula, example by example, for two critics, and for one critic with small gradients."""
    system = dataclasses.replace(TINY if sides == "one" else ONE, penalty_sides=sides)
    params = params if sides == "one" else {**params, CRITICS: jax.tree.map(lambda leaf: leaf[1:] / 3, params[CRITICS])}
    estimate = jax.jit(lambda image: system.separator.apply({"params": params[SEPARATOR]}, image[None]))
    judge = jax.jit(jax.value_and_grad(lambda part, x: system.critic.apply({"params": part}, x[None])[0], 1))
    positions, loss, penalties, steepness = jax.random.uniform(KEY, (2,)), 0.0, [], 0.0
    for k, stem in enumerate(system.critics):
        part = jax.tree.map(lambda leaf, k=k: leaf[k], params[CRITICS])
        for b in range(2):
            image = np.pad(log_magnitude(batch[CRITIC_MIXTURES][MIXTURE][b]), ((0, 0), (CONTEXT, CONTEXT + 1)))
            fake = estimate(image)[0, system.stems.index(stem), 1:9, 1:17]
            real = log_magnitude(batch[stem][TARGET][b])[11:19, 1:]
            steepness = np.linalg.norm(judge(part, real + positions[b] * (fake - real))[1])
            penalties.append(max(steepness - 1, 0) ** 2 if sides == "one" else (steepness - 1) ** 2)
            loss += (judge(part, fake)[0] - judge(part, real)[0] + 10 * penalties[-1]) / 2
    total, aux = jax.jit(system.critic_loss)({"params": params}, batch, KEY)
    assert float(total) == pytest.approx(float(loss), rel=1e-4)
    assert float(aux.metrics["penalty_accompaniment"]) == pytest.approx(np.mean(penalties[-2:]), rel=1e-3)
    assert min(penalties) < max(penalties)
    assert (steepness < 1) == (sides == "two")


def test_the_critic_loss_does_not_train_the_separator(params, batch):
    @jax.jit
    def run(weight):
        system = dataclasses.replace(ONE, penalty_weight=weight)
        loss = jax.value_and_grad(lambda params: system.critic_loss({"params": params}, batch, KEY), has_aux=True)
        return loss(of_one(params))

    (plain, aux), gradient = run(0.0)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient[SEPARATOR]))
    (penalised, _), penalised_gradient = run(4.0)
    assert float(penalised - plain) == pytest.approx(4.0 * float(aux.metrics["penalty_accompaniment"]), rel=1e-3)
    for layer in ("down_0", "score"):
        one, other = gradient[CRITICS][layer]["kernel"], penalised_gradient[CRITICS][layer]["kernel"]
        assert np.abs(one).max() > 0
        assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


@pytest.fixture(scope="module")
def separating(params, batch):
    """A function from both weights to the loss, the metrics and the gradient of the separator."""

    @jax.jit
    def run(adversarial, additivity):
        system = dataclasses.replace(ONE, adversarial_weight=adversarial, additivity_weight=additivity)

        def loss(part):
            return system.loss({"params": {**of_one(params), SEPARATOR: part}}, batch, KEY)

        return jax.value_and_grad(loss, has_aux=True)(params[SEPARATOR])

    return run


@pytest.mark.parametrize(("weights", "term"), [((2.0, 0.0), "adversarial"), ((0.0, 3.0), "additivity")])
def test_each_term_has_its_weight_and_trains_the_separator(separating, weights, term):
    (plain, aux), without = separating(0.0, 0.0)
    assert float(plain) == pytest.approx(sum(float(aux.metrics[f"mse_{stem}"]) for stem in TINY.stems), rel=1e-5)
    (loss, _), gradient = separating(*weights)
    assert float(loss - plain) == pytest.approx(sum(weights) * float(aux.metrics[term]), rel=1e-3)
    for layer in ("down_0", "sources"):
        one, other = without[layer]["kernel"], gradient[layer]["kernel"]
        assert np.abs(one - other).max() > 1e-2 * np.abs(one).max()


def test_the_adversarial_term_is_the_score_of_the_middle(params, batch, separating):
    (_, aux), _ = separating(0.0, 0.0)
    spectrograms, gradient = jax.jit(ONE.critic_view)({"params": of_one(params)}, batch[MIXTURES][MIXTURE])
    assert spectrograms.shape == gradient.shape == (1, 2, 8, 16)
    part = jax.tree.map(lambda leaf: leaf[1], params[CRITICS])
    score = jax.jit(lambda x: ONE.critic.apply({"params": part}, x[0]))
    scores = score(spectrograms)
    assert float(aux.metrics["adversarial"]) == pytest.approx(-float(scores.mean()), rel=1e-4)
    assert (score(spectrograms + 0.05 * gradient) > scores).all()


def test_squared_errors_are_those_of_the_middle_in_log_magnitude(params, batch):
    """With parameters of zero the estimates are silent, so that the error is the energy of the targets."""
    silent = {"params": jax.tree.map(jnp.zeros_like, params)}
    metrics = jax.jit(TINY.validate)(silent, batch, KEY)
    sources = batch[PAIRED][SOURCES]
    assert sources.shape[:2] == (2, 2)
    targets = [np.stack([log_magnitude(source)[10:20] for source in sources[:, k]]) for k in range(2)]
    errors = [np.square(image).sum() / (2 * 10 * 18) for image in targets]  # above 17 bins there is a row of zeros
    assert [float(metrics[f"mse_{stem}"]) for stem in TINY.stems] == pytest.approx(errors, rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(sum(errors), rel=1e-4)


def test_additivity_is_measured_in_linear_magnitude(params, batch, monkeypatch):
    @jax.jit
    def additivity(shares: Any):
        def sources(system, variables, audio):
            magnitude = jnp.expm1(system._centre(system._log_magnitude(audio)))
            return jnp.log1p(magnitude[:, None] * shares[None, :, None, None])

        monkeypatch.setattr(Stoller2018, "_sources", sources)
        return ONE.loss({"params": of_one(params)}, batch, KEY)[1].metrics["additivity"]

    magnitudes = np.expm1([log_magnitude(mixture)[10:20] for mixture in batch[MIXTURES][MIXTURE]])
    assert float(additivity(jnp.array([0.3, 0.7]))) < 1e-9
    missing = np.square(0.4 * magnitudes).sum() / (2 * 10 * 18)
    assert float(additivity(jnp.array([0.5, 0.1]))) == pytest.approx(missing, rel=1e-3)


@pytest.fixture(scope="module")
def separate(params):
    return jax.jit(lambda mixture: TINY.separate({"params": params}, mixture, ()))


START = 2 * STEP  # in frames


@pytest.fixture(scope="module")
def mixture():
    """A chunk from `START` on with frames on both sides, silent where the STFT reflects the ends of the chunk."""
    audio = jax.random.normal(KEY, (1, (30 + 3 * STEP) * HOP, 1))
    for end in (START, START + 30):
        audio = audio.at[:, (end - 1) * HOP - HOP // 2 : (end + 1) * HOP + HOP // 2].set(0.0)
    return audio


def chunk_of(audio):
    return audio[:, START * HOP :][:, : TINY.chunk_samples]


def test_the_middle_of_a_chunk_is_that_of_the_complete_signal(separate, mixture):
    """Chunks fit together without a seam if `context_samples` at both ends are discarded."""
    whole, part, edge = separate(mixture), separate(chunk_of(mixture))[0], TINY.context_samples
    assert whole.shape == (1, 2, mixture.shape[1], 1)
    difference = np.abs(part - jax.vmap(chunk_of)(whole)[0]).max((0, 2))
    assert difference[edge:-edge].max() < 1e-5
    assert min(difference[:edge].max(), difference[-edge:].max()) > 1e-3
    plan = plan_of(TINY)
    assert (plan.chunk, plan.context) == (30 * HOP, (CONTEXT + 1) * HOP) == (TINY.chunk_samples, edge)


def test_separation_gives_the_estimates_of_training(params, separate, mixture):
    """The magnitudes of the losses with the phase of the mixture give the same samples."""
    magnitudes = np.expm1(jax.jit(TINY._sources)({"params": params}, chunk_of(mixture)))[0, :, :, :17]
    frames = slice(START + CONTEXT, START + CONTEXT + 10)
    mixed = np.asarray(stft(mixture[0, :, 0], WINDOW, HOP))
    spectrogram = np.zeros((2, *mixed.shape), complex)
    spectrogram[:, frames] = magnitudes * (mixed[frames] / np.abs(mixed[frames]))
    inside = slice((frames.start + 1) * HOP, (frames.stop - 1) * HOP)
    expected = istft(jnp.asarray(spectrogram), WINDOW, HOP)[:, inside]
    np.testing.assert_allclose(separate(mixture)[0, :, inside, 0], expected, atol=1e-5)
    assert np.abs(expected).max() > 1e-2


def test_channels_are_separated_independently_and_silence_stays(separate, mixture):
    stereo = jnp.concatenate([mixture, mixture[:, ::-1]], axis=-1)
    estimates = separate(jnp.concatenate([stereo, jnp.zeros_like(stereo)]))
    assert estimates.shape == (2, 2, mixture.shape[1], 2)
    for channel, audio in enumerate((mixture, mixture[:, ::-1])):
        np.testing.assert_allclose(estimates[:1, ..., channel], separate(audio)[..., 0], atol=1e-5)
    assert not estimates[1].any()
