"""Tests of learning rate schedules and of the updates of optimizers."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import from_json, to_json
from qsep_jax.systems.base import RANGER, Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.optimizers import build, learning_rate, observe, slow_parameters


def rates(optimizer: Optimizer, updates: int, counts: list[int]) -> np.ndarray:
    schedule = learning_rate(optimizer, updates)
    return np.array([float(schedule(jnp.int32(count))) for count in counts])


def one_update(optimizer: Optimizer, params, gradients):
    rule = build(optimizer, 100)
    changes, _ = rule.update(gradients, rule.init(params), params)
    return optax.apply_updates(params, changes)


def test_lee2019_drops():
    """The rate is 2e-4 and drops by 5e-6 every 10,000 updates after 200,000, so it is zero from 600,000 on."""
    counts = [0, 199_999, 200_000, 209_999, 210_000, 219_999, 220_000, 400_000, 599_999, 600_000, 1_000_000]
    expected = [max(0, 40 - max(count - 200_000, 0) // 10_000) * 5e-6 for count in counts]
    actual = rates(Lee2019().optimizer, 1_000_000, counts)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-10)
    assert (actual >= 0).all()


def test_drops_count_the_warmup_as_updates():
    optimizer = Optimizer(learning_rate=1.0, schedule="drops", drop_after=20, drop_every=10, drop=0.25, warmup=10)
    np.testing.assert_allclose(
        rates(optimizer, 99, [0, 5, 10, 29, 30, 40, 90]), [0, 0.5, 1, 1, 0.75, 0.5, 0], atol=1e-6
    )


@pytest.mark.parametrize(("warmup", "final"), [(0, 0.0), (10, 0.1)])
def test_cosine_ends_at_the_last_update(warmup, final):
    optimizer = Optimizer(learning_rate=2e-3, schedule="cosine", warmup=warmup, final_fraction=final)
    middle = warmup + (100 - warmup) // 2
    actual = rates(optimizer, 100, [warmup, middle, 100, 200])
    np.testing.assert_allclose(actual, 2e-3 * np.array([1, (1 + final) / 2, final, final]), rtol=1e-5, atol=1e-9)


def test_warmup_grows_linearly_to_a_constant():
    actual = rates(Optimizer(learning_rate=4.0, warmup=4), 100, [0, 1, 2, 3, 4, 5, 99])
    np.testing.assert_allclose(actual, [0, 1, 2, 3, 4, 4, 4])


def test_adam_by_hand():
    optimizer, params = Optimizer(learning_rate=0.1, b1=0.5, b2=0.9, epsilon=1e-3), {"w": jnp.array([1.0, -1.0])}
    rule, state, moments = build(optimizer, 100), build(optimizer, 100).init(params), (np.zeros(2), np.zeros(2))
    expected = np.array([1.0, -1.0])
    for count, gradient in enumerate([np.array([1.0, 2.0]), np.array([-0.5, 0.25])], 1):
        changes, state = rule.update({"w": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, changes)
        moments = (0.5 * moments[0] + 0.5 * gradient, 0.9 * moments[1] + 0.1 * gradient**2)
        expected = expected - 0.1 * (moments[0] / (1 - 0.5**count)) / (np.sqrt(moments[1] / (1 - 0.9**count)) + 1e-3)
        np.testing.assert_allclose(params["w"], expected, rtol=1e-5)


def test_clipping_scales_large_gradients_over_all_arrays_and_leaves_small_ones():
    sgd = Optimizer(name="sgd", learning_rate=1.0, b1=0.0, clip_norm=5.0)
    zeros = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updated = one_update(sgd, zeros, {"a": jnp.array([30.0]), "b": jnp.array([-40.0])})
    np.testing.assert_allclose([updated["a"][0], updated["b"][0]], [-3.0, 4.0], rtol=1e-6)
    updated = one_update(sgd, zeros, {"a": jnp.array([0.3]), "b": jnp.array([-0.4])})
    np.testing.assert_allclose([updated["a"][0], updated["b"][0]], [-0.3, 0.4], rtol=1e-6)


def test_clipping_comes_before_momentum():
    rule = build(Optimizer(name="sgd", learning_rate=1.0, b1=0.5, clip_norm=4.0), 100)
    _, state = rule.update(jnp.array([40.0]), rule.init(jnp.zeros(1)))
    change, _ = rule.update(jnp.zeros(1), state)
    np.testing.assert_allclose(change, [-2.0], rtol=1e-6)


def test_weight_decay_is_decoupled():
    """With a zero gradient Adam makes no change, and only the decay, times the learning rate, remains."""
    params = {"w": jnp.array([4.0])}
    updated = one_update(Optimizer(learning_rate=0.1, weight_decay=0.5), params, {"w": jnp.zeros(1)})
    np.testing.assert_allclose(updated["w"], [4.0 * (1 - 0.1 * 0.5)], rtol=1e-6)


def test_momentum_of_sgd():
    rule = build(Optimizer(name="sgd", learning_rate=1.0, b1=0.5), 100)
    state = rule.init(jnp.zeros(1))
    steps = []
    for _ in range(3):
        change, state = rule.update(jnp.ones(1), state)
        steps.append(float(change[0]))
    assert steps == [-1.0, -1.5, -1.75]


def test_amsgrad_remembers_the_largest_gradient():
    """After one large gradient the steps of AMSGrad stay small, while those of Adam grow again.

    The largest second moment is (1 − b2) · 100².
    """

    def last_step(name: str) -> float:
        rule = build(Optimizer(name, learning_rate=1.0, b1=0.0, b2=0.5), 100)
        params = jnp.zeros(())
        state = rule.init(params)
        for gradient in (100.0, *[1.0] * 30):
            change, state = rule.update(jnp.float32(gradient), state, params)
        return float(change)

    assert last_step("adam") == pytest.approx(-1.0, rel=1e-3)
    assert last_step("amsgrad") == pytest.approx(-1 / math.sqrt(5_000), rel=1e-3)


# Parameters that start at 1 after each update of `torch.optim.Adam(amsgrad=True, lr=0.1)` of PyTorch 2.13.0 in float64.
AMSGRAD_GRADIENTS = [1.0, -0.8, 0.5, 0.3, -0.2, 0.2, 0.1, 2.0]
AMSGRAD_PLAIN = [0.9, 0.8941875, 0.8667529, 0.8323941, 0.8113315, 0.7860655, 0.7605257, 0.7071181]
# With weight_decay=0.05, at the whole and at a tenth of the rate.
AMSGRAD_FULL_RATE = [0.9, 0.8890639, 0.8564694, 0.8167267, 0.789322, 0.7575115, 0.7251211, 0.668221]
AMSGRAD_TENTH_RATE = [0.99, 0.9888782, 0.9855765, 0.9815465, 0.9787261, 0.975447, 0.9720883, 0.9663355]


@pytest.mark.parametrize(
    ("l2", "expected"),
    [
        (0.0, {"head": AMSGRAD_PLAIN}),
        (0.05, {"head": AMSGRAD_FULL_RATE, "resnet": AMSGRAD_TENTH_RATE}),
    ],
)
def test_amsgrad_takes_the_steps_of_pytorch(l2, expected):
    optimizer = Optimizer("amsgrad", learning_rate=0.1, l2=l2, rates=(("resnet", 0.1),))
    params = {name: jnp.ones(1) for name in expected}
    rule = build(optimizer, 100)
    state, steps = rule.init(params), {name: [] for name in expected}
    for gradient in AMSGRAD_GRADIENTS:
        changes, state = rule.update(dict.fromkeys(params, jnp.full(1, gradient)), state, params)
        params = optax.apply_updates(params, changes)
        for name, value in params.items():
            steps[name].append(float(value[0]))
    for name, values in expected.items():
        np.testing.assert_allclose(steps[name], values, rtol=3e-6)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'adamm'; choose adam, amsgrad, radam or sgd"):
        build(Optimizer(name="adamm"), 100)  # pyright: ignore[reportArgumentType]


def test_schedules_trace():
    for optimizer in (Lee2019().optimizer, Optimizer(schedule="cosine", warmup=3), Optimizer()):
        rate = jax.jit(learning_rate(optimizer, 100))(jnp.int32(7))
        np.testing.assert_allclose(rate, learning_rate(optimizer, 100)(jnp.int32(7)), rtol=1e-6)


def test_coupled_decay_is_added_to_the_gradient():
    """Adam's first step equals the learning rate for every size of the gradient; here the gradient is only decay."""
    updated = one_update(Optimizer(learning_rate=0.1, l2=0.5), {"w": jnp.array([4.0])}, {"w": jnp.zeros(1)})
    np.testing.assert_allclose(updated["w"], [3.9], rtol=1e-5)
    sgd = Optimizer("sgd", learning_rate=0.1, b1=0.0, l2=0.5)
    np.testing.assert_allclose(one_update(sgd, {"w": jnp.array([4.0])}, {"w": jnp.ones(1)})["w"], [4.0 - 0.1 * 3.0])


def test_rates_of_networks_by_path():
    optimizer = Optimizer("sgd", learning_rate=1.0, b1=0.0, rates=(("resnet", 0.1), ("top/late", 0.0)))
    paths = ("resnet/conv/kernel", "resnet2/kernel", "top/late/bias", "top/later/bias")
    updated = one_update(optimizer, dict.fromkeys(paths, jnp.zeros(1)), dict.fromkeys(paths, jnp.ones(1)))
    np.testing.assert_allclose([float(updated[path][0]) for path in paths], [-0.1, -1.0, 0.0, -1.0], rtol=1e-6)


def test_the_learning_rate_is_reduced_on_plateaus():
    optimizer = Optimizer("sgd", learning_rate=1.0, b1=0.0, schedule="plateau", factor=0.5, patience=20, threshold=0.1)
    rule, params = build(optimizer, 1000), {"w": jnp.zeros(1)}
    state, steps = rule.init(params), []
    # The loss decreases; decreases too little for 20 updates; decreases again; then stays for 40 updates.
    for loss in (3.0, 2.0, 1.95, 1.92, 1.5, 1.5, 1.5, 1.5, 1.5):
        state = observe(state, optimizer, jnp.float32(loss), jnp.float32(10.0))
        change, state = rule.update({"w": jnp.ones(1)}, state, params)
        steps.append(float(change["w"][0]))
    assert steps == [-1.0, -1.0, -1.0, -0.5, -0.5, -0.5, -0.25, -0.25, -0.125]


# Validation losses, and the rate after each by `torch.optim.lr_scheduler.ReduceLROnPlateau(factor=0.5, patience=2)` of
# PyTorch 2.13, whose threshold is a ten-thousandth of the lowest loss.
PYTORCH_PLATEAU = [
    (0.03, 1.0),
    (0.029998, 1.0),
    (0.029999, 1.0),
    (0.0299975, 0.5),
    (0.029996, 0.5),
    (0.029994, 0.5),
    (0.0299935, 0.5),
    (0.029992, 0.5),
    (0.0299935, 0.5),
    (0.02, 0.5),
    (0.019999, 0.5),
    (0.019997, 0.5),
    (0.0199985, 0.5),
    (0.0199985, 0.5),
    (0.01, 0.5),
    (0.0101, 0.5),
    (0.0101, 0.5),
    (0.0101, 0.25),
    (0.0101, 0.25),
    (0.0101, 0.25),
]


def plateau_rates(optimizer: Optimizer, losses: list[float], stages: tuple[int, ...] = ()) -> list[float]:
    """The learning rate after each validation, 250 updates apart; new stages begin at the validations `stages`."""
    rule, params = build(optimizer, 1000), {"w": jnp.zeros(1)}
    state, rates = rule.init(params), []
    for number, loss in enumerate(losses):
        state = observe(state, optimizer, jnp.float32(loss), jnp.float32(250.0), number in stages)
        change, state = rule.update({"w": jnp.ones(1)}, state, params)
        rates.append(-float(change["w"][0]))
    return rates


# A patience of p validations in PyTorch is one of p + 1 validations in updates.
LIKE_PYTORCH = Optimizer(
    "sgd", 1.0, b1=0.0, schedule="plateau", patience=750, threshold=1e-4, threshold_mode="relative"
)


def test_a_relative_plateau_is_that_of_pytorch():
    losses, expected = zip(*PYTORCH_PLATEAU, strict=True)
    assert plateau_rates(LIKE_PYTORCH, list(losses)) == list(expected)
    # None of these losses is 1e-4 below the one before: by an absolute threshold, only 0.02 and 0.01 are improvements.
    absolute = dataclasses.replace(LIKE_PYTORCH, threshold_mode="absolute")
    assert plateau_rates(absolute, list(losses)) != list(expected)


def test_a_plateau_starts_anew_with_a_stage():
    """Without the stage, the rate would fall at the fourth, the seventh and the tenth validation."""
    losses = [0.01] + [0.03 - 2e-4 * number for number in range(9)]
    assert plateau_rates(LIKE_PYTORCH, losses) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert plateau_rates(LIKE_PYTORCH, losses, stages=(0,)) == [1.0] * 10
    # A stage that begins where the patience ends does not halve the rate.
    assert plateau_rates(LIKE_PYTORCH, [0.01] * 7, stages=(3,)) == [1.0] * 7
    assert plateau_rates(LIKE_PYTORCH, [0.01] * 8, stages=(3,))[-1] == 0.5


def test_milestones_multiply_the_rate():
    optimizer = Optimizer(learning_rate=1.0, schedule="milestones", factor=0.1, milestones=(20, 50))
    np.testing.assert_allclose(rates(optimizer, 100, [0, 19, 20, 49, 50, 99]), [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    warm = dataclasses.replace(optimizer, warmup=10)
    np.testing.assert_allclose(rates(warm, 100, [5, 10, 19, 20, 50]), [0.5, 1, 1, 0.1, 0.01], rtol=1e-6)


# With this learning rate, changes exceed the rounding of float32. The first update that adapts is the sixth, which is
# also the first synchronisation of lookahead.
FAST_RANGER = dataclasses.replace(RANGER, learning_rate=0.1)


def ranger_gradients(updates: int) -> list[dict[str, np.ndarray]]:
    """Small gradients with a mean, for which the position of epsilon matters."""
    rng = np.random.default_rng(0)
    return [
        {"kernel": 1e-3 * rng.standard_normal((4, 3)) + 2e-4, "bias": 1e-5 * rng.standard_normal(3) + 1e-5}
        for _ in range(updates)
    ]


def ranger_start() -> dict[str, np.ndarray]:
    return {"kernel": np.arange(12.0).reshape(4, 3) / 5000, "bias": np.array([1e-3, -1e-3, 2e-3])}


def ranger_by_hand(start: np.ndarray, gradients: list[np.ndarray], rate: float) -> list[np.ndarray]:
    """Parameters after each update in float64, with every average computed as a sum (Liu 2020; Zhang 2019)."""
    b1, b2, history, fast, slow = 0.95, 0.999, [], start, start
    for t in range(1, len(gradients) + 1):
        past = np.stack([g - g.mean(axis=0) if g.ndim == 2 else g for g in gradients[:t]])
        ages = np.arange(t)[::-1].reshape(t, *[1] * start.ndim)
        mean = (b1**ages * past).sum(0) / (b1**ages).sum(0)
        longest = 2 / (1 - b2) - 1
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length > 5:
            root = np.sqrt(((1 - b2) * b2**ages * past**2).sum(0)) + 1e-5
            r2 = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            mean = np.sqrt(r2 * (1 - b2**t)) * mean / root
        fast = fast - rate * mean
        if t % 6 == 0:
            fast = slow = 0.5 * fast + 0.5 * slow
        history.append(fast)
    return history


def run(optimizer: Optimizer, start, gradients):
    """Parameters and state after each update."""
    rule = build(optimizer, 100)
    update = jax.jit(rule.update)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    state, history = rule.init(params), []
    for gradient in gradients:
        changes, state = update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradient), state, params)
        params = optax.apply_updates(params, changes)
        history.append((params, state))
    return history


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_ranger_by_hand(name):
    """15 updates: the first 5 without the denominator, and two synchronisations of the slow parameters."""
    gradients, start = ranger_gradients(15), ranger_start()
    actual = [start[name], *[params[name] for params, _ in run(FAST_RANGER, start, gradients)]]
    expected = [start[name], *ranger_by_hand(start[name], [gradient[name] for gradient in gradients], 0.1)]
    steps, expected_steps = np.diff(np.stack(actual).astype(np.float64), axis=0), np.diff(np.stack(expected), axis=0)
    np.testing.assert_allclose(steps, expected_steps, rtol=5e-4, atol=2e-9)
    assert np.abs(expected_steps).min() > 2e-8
    assert np.abs(expected_steps[6]).max() > 10 * np.abs(expected_steps[4]).max()


def test_radam_alone_adapts_from_the_sixth_update_on():
    """With a constant gradient, steps first equal the gradient, and then the rectified rate for every gradient."""
    history = run(Optimizer("radam", 1.0), {"w": np.zeros(2)}, [{"w": np.array([4e-3, -1.0])}] * 8)
    steps = np.diff(np.stack([np.zeros(2), *[params["w"] for params, _ in history]]), axis=0)
    np.testing.assert_allclose(steps[:5], [[-4e-3, 1.0]] * 5, rtol=1e-5)
    # N = 5.994164, 6.991996, 7.989495 of at most 1999.
    length = np.array([5.994163752, 6.991996004, 7.989494758])
    rectified = np.sqrt((length - 4) * (length - 2) / length * 1999 / (1995 * 1997))
    np.testing.assert_allclose(steps[5:], rectified[:, None] * [[-1.0, 1.0]], rtol=5e-4)


def test_radam_refuses_averages_too_short_to_adapt():
    with pytest.raises(ValueError, match=r"radam never adapts with b2 = 0.5: choose b2 above 2/3 and below 1, or"):
        build(Optimizer("radam", b2=0.5), 100)


def test_slow_parameters_equal_the_parameters_after_synchronisation():
    start = ranger_start()
    slow_before = start
    for count, (params, state) in enumerate(run(FAST_RANGER, start, ranger_gradients(13)), 1):
        slow = slow_parameters(state, FAST_RANGER)
        assert slow is not None
        for name in start:
            if count % 6 == 0:
                np.testing.assert_array_equal(slow[name], params[name])
                assert (slow[name] != np.float32(slow_before[name])).any()
            else:
                np.testing.assert_array_equal(slow[name], np.float32(slow_before[name]))
                assert (slow[name] != params[name]).any()
        slow_before = slow


def test_slow_parameters_start_at_the_first_update():
    """Pretrained parameters are set after the state was created; slow moves by a quarter of two updates of 1."""
    optimizer = Optimizer("sgd", 1.0, b1=0.0, lookahead=2, slow_rate=0.25)
    rule = build(optimizer, 100)
    state, params = rule.init({"w": jnp.zeros(1)}), {"w": jnp.full(1, 8.0)}
    history = []
    for _ in range(4):
        changes, state = rule.update({"w": jnp.ones(1)}, state, params)
        params = optax.apply_updates(params, changes)
        history.append((float(params["w"][0]), float(slow_parameters(state, optimizer)["w"][0])))
    assert history == [(7.0, 8.0), (7.5, 7.5), (6.5, 7.5), (7.0, 7.0)]
    assert slow_parameters(build(Optimizer(), 100).init(params), Optimizer()) is None


def test_slow_parameters_are_a_copy():
    """The caller may donate parameters and state together, in which no buffer may occur twice."""
    params = {"w": jnp.ones(3)}
    slow = slow_parameters(build(RANGER, 100).init(params), RANGER)
    assert slow is not None
    assert slow["w"].unsafe_buffer_pointer() != params["w"].unsafe_buffer_pointer()


def test_centralisation_removes_the_mean_over_the_inputs_of_each_output():
    sgd = Optimizer("sgd", 1.0, b1=0.0, centralize=True)
    gradients = {
        "dense": jnp.array([[1.0, 10.0], [3.0, 30.0]]),
        "conv": jnp.stack([jnp.arange(6.0).reshape(3, 2), jnp.full((3, 2), 7.0)], axis=-1),
        "bias": jnp.array([1.0, 5.0]),
        "slope": jnp.array(2.0),
    }
    updated = one_update(sgd, jax.tree.map(jnp.zeros_like, gradients), gradients)
    np.testing.assert_allclose(updated["dense"], [[1.0, 10.0], [-1.0, -10.0]])
    np.testing.assert_allclose(updated["conv"][..., 0], 2.5 - np.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(updated["conv"][..., 1], np.zeros((3, 2)), atol=1e-6)
    np.testing.assert_array_equal(updated["bias"], [-1.0, -5.0])
    np.testing.assert_array_equal(updated["slope"], -2.0)


def test_centralisation_comes_after_clipping_and_before_coupled_decay():
    params, gradients = {"w": jnp.array([[1.0], [3.0]])}, {"w": jnp.array([[30.0], [40.0]])}
    updated = one_update(Optimizer("sgd", 1.0, b1=0.0, clip_norm=5.0, l2=0.5, centralize=True), params, gradients)
    # The gradient is clipped to (3, 4) and centralised to (-0.5, 0.5); the decay adds 0.5 · (1, 3).
    np.testing.assert_allclose(updated["w"], [[1.0 + 0.5 - 0.5], [3.0 - 0.5 - 1.5]], rtol=1e-6)


def test_songs_under_vmap_are_updated_as_separately():
    """Parameters, gradients and states are stacked along a first axis; the songs have different update counts."""
    songs, rule = 3, build(FAST_RANGER, 100)
    rng = np.random.default_rng(1)
    starts = [jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape), ranger_start()) for _ in range(songs)]
    gradients = [
        [jax.tree.map(lambda x, s=song: (s + 1) * x, g) for g in ranger_gradients(13)] for song in range(songs)
    ]
    separate = [run(FAST_RANGER, starts[song], gradients[song][song:]) for song in range(songs)]

    def stacked(trees):
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)

    # Song number s starts after s of its gradients and is one update ahead of the next song.
    params = jax.tree.map(jnp.float32, stacked([separate[0][2][0], separate[1][1][0], separate[2][0][0]]))
    state = stacked([separate[0][2][1], separate[1][1][1], separate[2][0][1]])
    update = jax.jit(jax.vmap(rule.update))
    for count in range(3, 13):
        batch = stacked([jax.tree.map(np.float32, gradients[song][count]) for song in range(songs)])
        changes, state = update(batch, state, params)
        params = optax.apply_updates(params, changes)
        for song in range(songs):
            expected = separate[song][count - song]
            jax.tree.map(
                lambda a, b, s=song: np.testing.assert_allclose(a[s], b, rtol=1e-5, atol=1e-7),
                (params, state),
                expected,
            )


def test_ranger_survives_the_conversion_to_json():
    experiment = load_config(str(Path(__file__).parents[2] / "configs" / "quickstart.py"))
    optimizer = dataclasses.replace(RANGER, slow_rate=0.25)
    experiment = dataclasses.replace(experiment, system=dataclasses.replace(experiment.system, optimizer=optimizer))
    restored = from_json(to_json(experiment), "config.json")
    assert (
        restored.system.optimizer
        == optimizer
        == Optimizer("radam", 1e-5, b1=0.95, b2=0.999, epsilon=1e-5, centralize=True, lookahead=6, slow_rate=0.25)
    )
