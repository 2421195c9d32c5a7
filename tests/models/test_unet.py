"""Tests of the AdaIN U-Net: parameter counts, mask, conditioning on the latent, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.models.unet import QueryUNet
from qsep_jax.systems.base import parameter_count

CHANNELS = (4, 8, 8)
RNG = np.random.default_rng(0)
MAGNITUDE = np.abs(RNG.standard_normal((2, 8, 16))).astype(np.float32)
LATENT = RNG.standard_normal((2, 6)).astype(np.float32)


def initialised(**options):
    """Initialise a network; return its function, the mask for one input, and its variables."""
    net = QueryUNet(CHANNELS, **options)
    mask, variables = jax.jit(net.init_with_output)(jax.random.key(0), MAGNITUDE, LATENT)
    return jax.jit(net.apply), mask, variables


@pytest.mark.parametrize("mask_adain", [False, True])
def test_parameters_of_the_paper(mask_adain):
    """Nine 4×4 convolutions down and nine up (skips double the input of all but the first), 32 latent channels."""
    net = QueryUNet(mask_adain=mask_adain)
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 256, 512), (1, 32)))
    params = jax.eval_shape(net.init, jax.random.key(0), *shapes)["params"]
    encoder = (64, 128, 256, 512, 512, 512, 512, 512, 512)
    decoder = (512, 512, 512, 512, 512, 256, 128, 64, 1)
    down = 16 * sum(a * b for a, b in zip((1 + 32, *encoder[:-1]), encoder, strict=True)) + 64 + 512
    inputs = [512] + [a + b for a, b in zip(decoder[:-1], encoder[-2::-1], strict=True)]
    up = 16 * sum(a * b for a, b in zip(inputs, decoder, strict=True))
    adain = 2 * 32 * sum(decoder[:-1])
    mask = 2 * 32 if mask_adain else 1
    assert parameter_count(params) == down + up + adain + mask
    assert down + up + adain == 67_206_720


def test_mask_lies_between_0_and_1():
    _, mask, _ = initialised()
    assert mask.shape == MAGNITUDE.shape
    assert mask.dtype == np.float32
    assert 0 < mask.min() < mask.max() < 1


def test_innermost_map_of_one_pixel_is_not_normalised_to_zero():
    """With 8 frames and 16 bins the innermost map is 1×1, and the output must still depend on it."""
    net = QueryUNet((4, 8, 8, 8))
    (_, first), (_, second) = (
        jax.jit(lambda key, magnitude: net.init_with_output(key, magnitude, LATENT, capture_intermediates=True))(
            jax.random.key(0), magnitude
        )
        for magnitude in (MAGNITUDE, MAGNITUDE[:, ::-1])
    )
    one, two = (tree["intermediates"]["up_3"]["__call__"][0] for tree in (first, second))
    assert first["intermediates"]["down_3"]["__call__"][0].shape == (2, 1, 1, 8)
    assert np.abs(one - two).max() > 1e-2


@pytest.mark.parametrize("path", ["adain", "down_0"])
def test_latent_conditions_the_mask_by_both_paths(path):
    """The mask depends on the latent even if the kernels of the other path are disabled."""
    apply, _, variables = initialised()
    params = dict(variables["params"])
    if path == "adain":
        params["down_0"] = {**params["down_0"], "kernel": params["down_0"]["kernel"].at[:, :, 1:].set(0.0)}
    else:  # scales of 1 and no biases for every latent
        latent = np.concatenate([LATENT[:, :-1], np.ones((2, 1), np.float32)], axis=1)
        for name in ("adain_1", "adain_2"):
            kernel = np.zeros_like(params[name]["scale"]["kernel"])
            kernel[-1] = 1.0
            params[name] = {"scale": {"kernel": kernel}, "bias": {"kernel": np.zeros_like(kernel)}}
    latents = (LATENT, -LATENT) if path == "adain" else (latent, latent * [-1, -1, -1, -1, -1, 1])
    one, two = (apply({"params": params}, MAGNITUDE, np.float32(latent)) for latent in latents)
    assert np.abs(one - two).max() > 1e-3


def test_bfloat16_gives_a_float32_mask_close_to_that_of_float32():
    _, mask, variables = initialised()
    half = jax.jit(QueryUNet(CHANNELS, dtype=jnp.dtype("bfloat16")).apply)(variables, MAGNITUDE, LATENT)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - mask).max() < 0.05
