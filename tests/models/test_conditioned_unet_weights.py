"""Checkpoints of the authors of Slizovskaia et al. 2021: their networks in PyTorch with random weights, and ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from configs.slizovskaia2021 import get_config
from data_pipelines.schema import FRAMES
from qsep_jax.models import conditioned_unet_weights
from qsep_jax.models.mask_unet import MaskUNet
from qsep_jax.runs.pretrained import begin_with
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from tests.variables import variables_of

# The experiments whose checkpoints are published, and one with a decoder for each instrument.
PUBLISHED = (1, 6, 8, 9, 10, 11, 13, 16, 18)
RNG = np.random.default_rng(0)


def system_of(number: int) -> Slizovskaia2021:
    system = get_config(f"exp{number},debug").system
    assert isinstance(system, Slizovskaia2021)
    return system


@pytest.mark.torch
@pytest.mark.parametrize("number", [*PUBLISHED, 7])
def test_a_checkpoint_gives_the_outputs_of_its_network(number, tmp_path):
    import torch

    from tests.models.torch_conditioned_unet import network_of
    from tests.models.torch_resnet import randomised

    torch.manual_seed(number)
    system = system_of(number)
    network, path = randomised(network_of(system)), tmp_path / "CP0990.pth"
    torch.save(network.state_dict(), path)
    variables = variables_of(system)
    loaded = begin_with(system, dict.fromkeys(variables["params"], str(path)))(variables)
    inputs = RNG.standard_normal((2, system.frames, system.bins)).astype(np.float32)
    labels = RNG.integers(0, 2, (2, 13)).astype(np.float32)
    audio, context = network, torch.from_numpy(labels)
    condition = jnp.asarray(labels)
    if system.visual:
        shape = (2, system.visual.slots, system.visual.frames, system.visual.size, system.visual.size, 3)
        frames = RNG.integers(0, 256, shape).astype(np.uint8)  # of all slots: black pictures of empty ones differ
        with torch.no_grad():
            context = network.visual(torch.from_numpy(np.moveaxis(frames / np.float32(255), -1, 3).copy()))
        condition = jax.jit(system.condition)(loaded, {FRAMES: frames})
        np.testing.assert_allclose(condition, context.numpy(), atol=2e-5)
        audio = network.audio
    with torch.no_grad():
        expected = audio(torch.from_numpy(inputs.swapaxes(1, 2)[:, None].copy()), context).numpy()
    collections = {name: loaded[name]["separator"] for name in ("params", "batch_stats")}
    film = condition if system.separator.film != "none" else None
    apply = jax.jit(lambda x: system.separator.apply(collections, x, film, False, jax.random.key(0)))
    maps, _ = apply(inputs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(maps, expected.swapaxes(2, 3), atol=1e-4 * np.abs(expected).max())


def state_of(system: Slizovskaia2021) -> tuple[dict[str, np.ndarray], Any]:
    """Random variables of an audio model, and the authors' state dictionary of them, written down by its rules."""
    variables = jax.device_get(variables_of(system, seed=5))
    levels, state = len(system.channels), {}
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for path, leaf in flatten_dict({name: tree["separator"] for name, tree in variables.items()}).items():
        value = np.asarray(leaf)
        if path[-2].startswith("up_"):  # the level below, then the skip
            below = system.channels[int(path[-2][3:])]
            value = np.concatenate([value[:, :, below:], value[:, :, :below]], axis=2)
        value = value.transpose(3, 2, 1, 0) if value.ndim == 4 else value.T
        name = conditioned_unet_weights.unet_name(path[1:-1], levels)
        state[f"{name}.{leaves[path[-1]]}"] = np.ascontiguousarray(value)
    return state, variables


SMALL = MaskUNet(sources=3, channels=(4, 6), film="encoder")
# The names and shapes of the authors, `[out, in, frequency, time]`, for two levels and a condition of five numbers.
SMALL_SHAPES = {
    "encoder.0.conv.weight": (4, 1, 4, 4),
    "encoder.0.bn.weight": (4,),
    "encoder.0.bn.bias": (4,),
    "encoder.0.bn.running_mean": (4,),
    "encoder.0.bn.running_var": (4,),
    "encoder.0.conditioning.fc.linear.weight": (8, 5),
    "encoder.0.conditioning.fc.linear.bias": (8,),
    "encoder.1.weight": (6, 4, 4, 4),
    "decoder.0.0.0.weight": (4, 10, 3, 3),
    "decoder.0.0.1.weight": (4,),
    "decoder.0.0.1.bias": (4,),
    "decoder.0.0.1.running_mean": (4,),
    "decoder.0.0.1.running_var": (4,),
    "decoder.1.0.0.weight": (3, 5, 3, 3),
    "decoder.1.0.1.weight": (3,),
    "decoder.1.0.1.bias": (3,),
    "decoder.1.0.1.running_mean": (3,),
    "decoder.1.0.1.running_var": (3,),
    "output.0.weight": (1, 1, 1, 1),
    "classifier.0.weight": (2, 2),
    "classifier.0.bias": (2,),
}


def small_weights() -> dict[str, np.ndarray]:
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in SMALL_SHAPES.items()}
    return weights | {"encoder.0.bn.num_batches_tracked": np.array(7)}


@pytest.mark.parametrize("prefix", ["", "audio."])
def test_every_weight_has_its_place(prefix):
    """Without PyTorch: all names, the order of the axes, and skips after the level below instead of before it."""
    weights = small_weights()
    named = {f"{prefix}{name}": value for name, value in weights.items()}
    if prefix:
        named["visual.fc.0.weight"] = np.zeros((13, 4), np.float32)
    loaded = conditioned_unet_weights.unet(named, SMALL, 5)
    inputs = (jnp.zeros((1, 4, 4)), jnp.zeros((1, 5)), False, jax.random.key(0))
    expected = jax.eval_shape(lambda: SMALL.init(jax.random.key(0), *inputs))
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, expected)
    params = loaded["params"]
    assert params["down_1"]["kernel"][3, 2, 1, 5] == weights["encoder.1.weight"][5, 1, 2, 3]  # time is their last axis
    film = params["film_0"]["linear"]["kernel"]
    np.testing.assert_array_equal(film, weights["encoder.0.conditioning.fc.linear.weight"].T)
    deep, last = weights["decoder.0.0.0.weight"], weights["decoder.1.0.0.weight"]
    # Theirs: four channels of the encoder, then six from below; at the last level the input, then four from below.
    assert params["decoder"]["up_1"]["kernel"][0, 2, 0, 3] == deep[3, 4, 2, 0]
    assert params["decoder"]["up_1"]["kernel"][0, 2, 6, 3] == deep[3, 0, 2, 0]
    assert params["decoder"]["up_0"]["kernel"][1, 2, 4, 2] == last[2, 0, 2, 1]
    assert params["decoder"]["up_0"]["kernel"][1, 2, 0, 2] == last[2, 1, 2, 1]
    statistics = loaded["batch_stats"]["decoder"]["norm_0"]
    np.testing.assert_array_equal(statistics["var"], weights["decoder.1.0.1.running_var"])


def test_early_checkpoints_have_numbers_for_the_layers_of_the_encoder():
    weights = small_weights()
    numbers = {"conv": "0", "bn": "1"}
    early = {
        ".".join(numbers.get(part, part) for part in name.split(".")) if name.startswith("encoder.0") else name: value
        for name, value in weights.items()
    }
    assert "encoder.0.1.running_mean" in early
    jax.tree.map(
        np.testing.assert_array_equal,
        conditioned_unet_weights.unet(early, SMALL, 5),
        conditioned_unet_weights.unet(weights, SMALL, 5),
    )


def test_files_of_other_models_are_refused(tmp_path):
    path, system = tmp_path / "CP0990.safetensors", system_of(6)
    safetensors.numpy.save_file({name: value for name, value in small_weights().items() if value.ndim}, path)
    with pytest.raises(ValueError, match=r"'.*' has shape .*, expected|contain '.*'|lack '.*'"):
        begin_with(system, {"separator": str(path)})
    lstm = system_of(13)
    with pytest.raises(ValueError, match=r"lack 'visual.LSTM.weight_ih_l0': they are of a model without an LSTM"):
        begin_with(lstm, {"context": str(path)})
    with pytest.raises(ValueError, match=r"contain 'encoder.0.conditioning.fc.linear.*which the network does not have"):
        conditioned_unet_weights.unet(small_weights(), MaskUNet(sources=3, channels=(4, 6)), 0)
