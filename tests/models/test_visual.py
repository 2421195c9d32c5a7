"""Tests of the context from features of frames: PyTorch's pooling and LSTM, and empty slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.models.visual import InstrumentLogits, VisualContext, adaptive_max_pool
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)
FEATURES = np.random.default_rng(0).standard_normal((2, 3, 4, 12)).astype(np.float32)
PRESENT = np.array([[1, 1, 1], [1, 0, 1]], bool)


def test_the_sizes_of_the_paper():
    """An LSTM of 1024 on 2048 features with one bias for each of four gates; 13 classes from a context of 1024."""
    features, present = jnp.zeros((2, 7, 5, 2048)), jnp.ones((2, 7))
    context, variables = jax.eval_shape(lambda: VisualContext("lstm").init_with_output(KEY, features, present))
    assert context.shape == (2, 1024)
    assert parameter_count(variables) == 4 * 1024 * (2048 + 1024 + 1)
    pooled, empty = jax.eval_shape(lambda: VisualContext("max").init_with_output(KEY, features, present))
    assert (pooled.shape, parameter_count(empty)) == ((2, 1024), 0)
    head = jax.eval_shape(lambda: InstrumentLogits(13).init(KEY, jnp.zeros(context.shape)))
    assert parameter_count(head) == 13 * 1025


@pytest.mark.torch
@pytest.mark.parametrize("size", [12, 6, 5, 1, 20])
def test_adaptive_pooling_equals_pytorch(size):
    import torch

    expected = torch.nn.functional.adaptive_max_pool1d(torch.from_numpy(FEATURES.reshape(6, 4, 12)), size)
    np.testing.assert_array_equal(adaptive_max_pool(jnp.asarray(FEATURES), size).reshape(6, 4, size), expected)


def test_the_maximum_is_over_slots_and_frames():
    context = VisualContext("max", 6).apply({}, FEATURES, PRESENT)
    pairs = FEATURES.reshape(2, 3, 4, 6, 2).max(-1)
    np.testing.assert_array_equal(context[0], pairs[0].max((0, 1)))
    np.testing.assert_array_equal(context[1], np.maximum(pairs[1, [0, 2]].max((0, 1)), 0.0))


@pytest.mark.torch
def test_the_lstm_equals_pytorch():
    """PyTorch's two biases of a gate are summed to our single one; empty slots are steps whose features are zero."""
    import torch

    torch.manual_seed(0)
    torch_network = torch.nn.LSTM(12, 7, batch_first=True)
    weights = {name: value.detach().numpy() for name, value in torch_network.named_parameters()}
    inputs, recurrent = (np.split(weights[f"weight_{kind}_l0"], 4) for kind in ("ih", "hh"))
    biases = np.split(weights["bias_ih_l0"] + weights["bias_hh_l0"], 4)
    cell = {}
    for gate, ih, hh, bias in zip("ifgo", inputs, recurrent, biases, strict=True):
        cell |= {f"i{gate}": {"kernel": ih.T}, f"h{gate}": {"kernel": hh.T, "bias": bias}}
    context = VisualContext("lstm", 7).apply({"params": {"lstm": cell}}, FEATURES, PRESENT)
    sequence = FEATURES * PRESENT[..., None, None]
    _, (state, _) = torch_network(torch.from_numpy(sequence.reshape(2, 12, 12)))  # slot by slot, each in order of time
    np.testing.assert_allclose(context, state[0].detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["max", "lstm"])
def test_features_of_empty_slots_are_ignored(kind):
    module = VisualContext(kind, 6)
    variables = module.init(KEY, FEATURES, PRESENT)
    other = np.where(PRESENT[..., None, None], FEATURES, np.nan)
    np.testing.assert_array_equal(module.apply(variables, FEATURES, PRESENT), module.apply(variables, other, PRESENT))


def test_the_lstm_is_initialised_as_in_pytorch():
    params = VisualContext("lstm", 16).init(KEY, FEATURES, PRESENT)["params"]["lstm"]
    for gate in params.values():
        assert 0.2 < np.abs(gate["kernel"]).max() <= 0.25
        assert gate["kernel"].min() < 0 < gate["kernel"].max()


def test_logits_are_float32_in_any_precision():
    head = InstrumentLogits(5, jnp.dtype("bfloat16"))
    logits, _ = head.init_with_output(KEY, jax.random.normal(KEY, (3, 8)))
    assert (logits.shape, logits.dtype) == ((3, 5), np.float32)
