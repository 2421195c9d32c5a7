"""Learning rates by update, and the updates that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qsep_jax.systems.base import Optimizer
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.training.optimizers import build, learning_rate, observe


def rates(optimizer: Optimizer, updates: int, counts: list[int]) -> np.ndarray:
    schedule = learning_rate(optimizer, updates)
    return np.array([float(schedule(jnp.int32(count))) for count in counts])


def one_update(optimizer: Optimizer, params, gradients):
    rule = build(optimizer, 100)
    changes, _ = rule.update(gradients, rule.init(params), params)
    return optax.apply_updates(params, changes)


def test_lee2019_drops():
    """2e-4, less 5e-6 for every 10,000 updates after 200,000: zero from 600,000 on."""
    counts = [0, 199_999, 200_000, 209_999, 210_000, 219_999, 220_000, 400_000, 599_999, 600_000, 1_000_000]
    expected = [max(0, 40 - max(count - 200_000, 0) // 10_000) * 5e-6 for count in counts]
    found = rates(Lee2019().optimizer, 1_000_000, counts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-10)
    assert (found >= 0).all()


def test_drops_count_the_warmup_as_updates():
    optimizer = Optimizer(learning_rate=1.0, schedule="drops", drop_after=20, drop_every=10, drop=0.25, warmup=10)
    np.testing.assert_allclose(
        rates(optimizer, 99, [0, 5, 10, 29, 30, 40, 90]), [0, 0.5, 1, 1, 0.75, 0.5, 0], atol=1e-6
    )


@pytest.mark.parametrize(("warmup", "final"), [(0, 0.0), (10, 0.1)])
def test_cosine_ends_at_the_last_update(warmup, final):
    optimizer = Optimizer(learning_rate=2e-3, schedule="cosine", warmup=warmup, final_fraction=final)
    middle = warmup + (100 - warmup) // 2
    found = rates(optimizer, 100, [warmup, middle, 100, 200])
    np.testing.assert_allclose(found, 2e-3 * np.array([1, (1 + final) / 2, final, final]), rtol=1e-5, atol=1e-9)


def test_warmup_grows_linearly_to_a_constant():
    found = rates(Optimizer(learning_rate=4.0, warmup=4), 100, [0, 1, 2, 3, 4, 5, 99])
    np.testing.assert_allclose(found, [0, 1, 2, 3, 4, 4, 4])


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
    moved = one_update(sgd, zeros, {"a": jnp.array([30.0]), "b": jnp.array([-40.0])})
    np.testing.assert_allclose([moved["a"][0], moved["b"][0]], [-3.0, 4.0], rtol=1e-6)
    moved = one_update(sgd, zeros, {"a": jnp.array([0.3]), "b": jnp.array([-0.4])})
    np.testing.assert_allclose([moved["a"][0], moved["b"][0]], [-0.3, 0.4], rtol=1e-6)


def test_clipping_comes_before_momentum():
    rule = build(Optimizer(name="sgd", learning_rate=1.0, b1=0.5, clip_norm=4.0), 100)
    _, state = rule.update(jnp.array([40.0]), rule.init(jnp.zeros(1)))
    change, _ = rule.update(jnp.zeros(1), state)
    np.testing.assert_allclose(change, [-2.0], rtol=1e-6)


def test_weight_decay_is_decoupled():
    """Without a gradient Adam does not move; decay alone takes its share, times the rate."""
    params = {"w": jnp.array([4.0])}
    moved = one_update(Optimizer(learning_rate=0.1, weight_decay=0.5), params, {"w": jnp.zeros(1)})
    np.testing.assert_allclose(moved["w"], [4.0 * (1 - 0.1 * 0.5)], rtol=1e-6)


def test_momentum_of_sgd():
    rule = build(Optimizer(name="sgd", learning_rate=1.0, b1=0.5), 100)
    state = rule.init(jnp.zeros(1))
    steps = []
    for _ in range(3):
        change, state = rule.update(jnp.ones(1), state)
        steps.append(float(change[0]))
    assert steps == [-1.0, -1.5, -1.75]


def test_amsgrad_remembers_the_largest_gradient():
    """After one large gradient its steps stay small, where Adam's grow again."""

    def last_step(name: str) -> float:
        rule = build(Optimizer(name, learning_rate=1.0, b1=0.0, b2=0.5), 100)
        params = jnp.zeros(())
        state = rule.init(params)
        for gradient in (100.0, *[1.0] * 30):
            change, state = rule.update(jnp.float32(gradient), state, params)
        return float(change)

    assert last_step("adam") == pytest.approx(-1.0, rel=1e-3)
    assert last_step("amsgrad") == pytest.approx(-0.01, rel=1e-3)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'adamm'; there are adam, amsgrad and sgd"):
        build(Optimizer(name="adamm"), 100)  # pyright: ignore[reportArgumentType]


def test_schedules_trace():
    for optimizer in (Lee2019().optimizer, Optimizer(schedule="cosine", warmup=3), Optimizer()):
        rate = jax.jit(learning_rate(optimizer, 100))(jnp.int32(7))
        np.testing.assert_allclose(rate, learning_rate(optimizer, 100)(jnp.int32(7)), rtol=1e-6)


def test_coupled_decay_joins_the_gradient():
    """Adam's first step is the rate, whatever the size of the gradient: here it is decay alone."""
    moved = one_update(Optimizer(learning_rate=0.1, l2=0.5), {"w": jnp.array([4.0])}, {"w": jnp.zeros(1)})
    np.testing.assert_allclose(moved["w"], [3.9], rtol=1e-5)
    sgd = Optimizer("sgd", learning_rate=0.1, b1=0.0, l2=0.5)
    np.testing.assert_allclose(one_update(sgd, {"w": jnp.array([4.0])}, {"w": jnp.ones(1)})["w"], [4.0 - 0.1 * 3.0])


def test_rates_of_networks_by_path():
    optimizer = Optimizer("sgd", learning_rate=1.0, b1=0.0, rates=(("resnet", 0.1), ("top/late", 0.0)))
    paths = ("resnet/conv/kernel", "resnet2/kernel", "top/late/bias", "top/later/bias")
    moved = one_update(optimizer, dict.fromkeys(paths, jnp.zeros(1)), dict.fromkeys(paths, jnp.ones(1)))
    np.testing.assert_allclose([float(moved[path][0]) for path in paths], [-0.1, -1.0, 0.0, -1.0], rtol=1e-6)


def test_the_rate_falls_where_the_validation_loss_does_not():
    optimizer = Optimizer("sgd", learning_rate=1.0, b1=0.0, schedule="plateau", factor=0.5, patience=20, threshold=0.1)
    rule, params = build(optimizer, 1000), {"w": jnp.zeros(1)}
    state, steps = rule.init(params), []
    # Falls; falls too little, twice: 20 updates; falls again; then stays for 40.
    for loss in (3.0, 2.0, 1.95, 1.92, 1.5, 1.5, 1.5, 1.5, 1.5):
        state = observe(state, optimizer, jnp.float32(loss), jnp.float32(10.0))
        change, state = rule.update({"w": jnp.ones(1)}, state, params)
        steps.append(float(change["w"][0]))
    assert steps == [-1.0, -1.0, -1.0, -0.5, -0.5, -0.5, -0.25, -0.25, -0.125]
