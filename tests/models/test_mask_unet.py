"""Tests of the U-Net of Slizovskaia et al. 2021: published sizes, and what a condition affects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.models.mask_unet import MaskUNet
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)
SPECTROGRAM = jax.random.normal(jax.random.key(1), (2, 8, 16))
CONDITIONS = jnp.eye(3)[:2]


def small(**fields) -> MaskUNet:
    return MaskUNet(3, (4, 6, 8), **fields)


@functools.cache
def variables_of(network: MaskUNet):
    condition = None if network.film == "none" else CONDITIONS
    return jax.jit(lambda: network.init(KEY, SPECTROGRAM, condition, False, KEY))()


@functools.partial(jax.jit, static_argnums=(0, 4))
def maps_of(network: MaskUNet, variables, condition, key=KEY, train=False):
    return network.apply(variables, SPECTROGRAM, condition, train, key, mutable=["batch_stats"])[0][0]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 5_154_719),
        # A linear layer from 13 labels to a scale and a bias for each channel.
        ({"film": "bottleneck"}, 5_154_719 + 14 * 2 * 512),
        ({"film": "encoder"}, 5_154_719 + 14 * 2 * (16 + 32 + 64 + 128 + 256)),
        ({"film": "final"}, 5_154_719 + 14 * 2 * 13),
        # 12 further decoders, each of which has one output map instead of 13.
        ({"heads": True}, 5_154_719 + 12 * (2_358_981 + 1_018) - 13 * 12 * (9 * 17 + 2)),
        ({"classes": 13}, 5_154_719 + 513 * 13),
    ],
)
def test_parameters_of_the_published_sizes(fields, count):
    network = MaskUNet(**fields)
    condition = jnp.zeros((1, 13)) if "film" in fields else None
    shapes = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 256, 512)), condition, False, KEY))
    assert parameter_count(shapes["params"]) == count


@pytest.mark.parametrize("heads", [False, True])
def test_maps_have_the_size_of_the_spectrogram_and_are_not_negative(heads):
    network = small(heads=heads, classes=2)
    apply = jax.jit(lambda variables: network.apply(variables, SPECTROGRAM, None, False, KEY))
    maps, logits = apply(variables_of(network))
    assert maps.shape == (2, 3, 8, 16)
    assert logits.shape == (2, 2)
    assert float(maps.min()) == 0.0 < float(maps.max())


@pytest.mark.parametrize("film", ["bottleneck", "encoder", "final"])
def test_a_condition_only_changes_its_example(film):
    network = small(film=film)
    variables = variables_of(network)
    before = maps_of(network, variables, CONDITIONS)
    after = maps_of(network, variables, CONDITIONS.at[1].set(jnp.asarray([0.0, 0.0, 1.0])))
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).any()


def test_heads_only_share_the_encoder():
    network = small(heads=True)
    variables = variables_of(network)
    params = {**variables["params"], "decoder_1": jax.tree.map(jnp.zeros_like, variables["params"]["decoder_1"])}
    before, after = maps_of(network, variables, None), maps_of(network, {**variables, "params": params}, None)
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
    assert (before[:, 1] != after[:, 1]).any()


def test_dropout_is_only_active_in_training():
    network = small()
    variables = variables_of(network)
    one, other = maps_of(network, variables, None), maps_of(network, variables, None, jax.random.key(5))
    np.testing.assert_array_equal(one, other)
    one, other = (maps_of(network, variables, None, jax.random.key(seed), True) for seed in (0, 5))
    assert (one != other).any()
