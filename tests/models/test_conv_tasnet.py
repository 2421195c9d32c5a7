"""Tests of Conv-TasNet: published sizes, gain and reconstruction, and weights with PyTorch's names."""

import dataclasses
import gzip
import sys
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs.cantisani2021 import get_config
from qsep_jax.models import tasnet_weights
from qsep_jax.models.conv_tasnet import ConvTasNet
from qsep_jax.systems.base import parameter_count
from qsep_jax.systems.cantisani2021 import Cantisani2021

KEY = jax.random.key(0)
WINDOW, HOP, CHANNELS, SOURCES = 6, 3, 2, 3
TINY = ConvTasNet(SOURCES, 8, WINDOW, bottleneck=5, hidden=7, kernel=3, blocks=2, repeats=2)
SYSTEM: Cantisani2021 = get_config("debug").system  # pyright: ignore[reportAssignmentType]


def signal(samples: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal((batch, samples, CHANNELS)).astype(np.float32)


def initialised(network: ConvTasNet = TINY):
    return jax.jit(lambda: network.init(KEY, jnp.zeros((1, network.window, CHANNELS))))()["params"]


@partial(jax.jit, static_argnames="network")
def run(params, mixture, network=TINY):
    return network.apply({"params": params}, mixture)


@pytest.fixture(scope="module")
def params():
    return initialised()


def test_the_published_parameter_counts():
    """`papers-in-detail`, section 5.1: the counts of the slides imply ten blocks in a repeat."""
    network = ConvTasNet(4, 256, 20, bottleneck=256, hidden=512, kernel=3, blocks=10, repeats=4)
    assert network == Cantisani2021().network
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 20, 2)))["params"]
    assert parameter_count(shapes) == 10_977_872
    separator = shapes["separator"]
    repeats = {name: tree for name, tree in separator.items() if name.startswith("repeat_")}
    assert {parameter_count(tree) for tree in repeats.values()} == {2_657_300}
    assert {parameter_count(block) for tree in repeats.values() for block in tree.values()} == {265_730}
    assert parameter_count(separator["mask"]) == 262_144
    assert parameter_count(separator["bottleneck"]) == 65_536
    assert parameter_count([separator["norm_scale"], separator["norm_bias"]]) == 512
    assert parameter_count(shapes["encoder"]) == parameter_count(shapes["decoder"]) == 10_240


@pytest.mark.parametrize("gain", [30.0, 0.1])
def test_the_output_scales_with_the_input(params, gain):
    mixture = signal(60)
    estimates = run(params, mixture)
    assert np.abs(estimates).max() > 1e-2
    np.testing.assert_allclose(
        run(params, gain * mixture), gain * estimates, atol=1e-4 * gain * np.abs(estimates).max()
    )


@pytest.mark.parametrize("samples", [6, 7, 8, 9, 31, 35])
def test_samples_after_the_last_complete_window_are_silent(params, samples):
    mixture = signal(samples)
    estimates, covered = np.asarray(run(params, mixture)), samples // HOP * HOP
    assert estimates.shape == (2, SOURCES, samples, CHANNELS)
    assert not estimates[:, :, covered:].any()
    assert estimates[:, :, covered - HOP : covered].any()
    np.testing.assert_allclose(estimates[:, :, :covered], run(params, mixture[:, :covered]), atol=1e-6)


def test_overlap_add_reconstructs_the_mixture(params):
    """The filters split windows into positive and negative parts and halve them; the masks are 1, 2 and 3."""
    size = WINDOW * CHANNELS
    network = dataclasses.replace(TINY, filters=2 * size)
    params = jax.tree.map(np.asarray, initialised(network))
    encoder = np.concatenate([np.eye(size), -np.eye(size)], axis=1).astype(np.float32)
    separator = jax.tree_util.tree_map_with_path(  # blocks that return their input
        lambda path, leaf: np.zeros_like(leaf) if path[-1].key == "contract" else leaf, params["separator"]
    )
    separator["norm_scale"], separator["norm_bias"] = np.zeros(2 * size, np.float32), np.ones(2 * size, np.float32)
    separator["bottleneck"] = np.full_like(separator["bottleneck"], 0.5 / size)
    separator["mask"] = np.repeat(np.arange(1.0, 4.0, dtype=np.float32) / 5, 2 * size)[None].repeat(5, axis=0)
    mixture = signal(40)
    estimates = run({"encoder": encoder, "decoder": encoder.T / 2, "separator": separator}, mixture, network)
    expected = np.pad(mixture[:, :39], ((0, 0), (0, 1), (0, 0)))
    expected[:, :HOP] /= 2  # covered by one window only
    expected[:, 36:] /= 2
    np.testing.assert_allclose(estimates, expected[:, None] * np.arange(1, 4)[:, None, None], atol=1e-5)


def test_the_published_names():
    network = dataclasses.replace(TINY, blocks=2, repeats=1)
    weights = tasnet_weights.to_published(initialised(network), network)
    block = {
        "net.0.weight": (7, 5, 1),
        "net.1.weight": (1,),
        "net.2.gamma": (1, 7, 1),
        "net.2.beta": (1, 7, 1),
        "net.3.net.0.weight": (7, 1, 3),
        "net.3.net.1.weight": (1,),
        "net.3.net.2.gamma": (1, 7, 1),
        "net.3.net.2.beta": (1, 7, 1),
        "net.3.net.3.weight": (5, 7, 1),
    }
    assert {name: value.shape for name, value in weights.items()} == {
        "encoder.conv1d_U.weight": (8, CHANNELS, WINDOW),
        "separator.network.0.gamma": (1, 8, 1),
        "separator.network.0.beta": (1, 8, 1),
        "separator.network.1.weight": (5, 8, 1),
        **{f"separator.network.2.0.{number}.{name}": shape for number in (0, 1) for name, shape in block.items()},
        "separator.network.3.weight": (SOURCES * 8, 5, 1),
        "decoder.basis_signals.weight": (CHANNELS * WINDOW, 8),
    }


def random_weights(network: ConvTasNet) -> tasnet_weights.Weights:
    """Random weights with the published names."""
    rng, weights = np.random.default_rng(0), tasnet_weights.to_published(initialised(network), network)
    return {name: (0.3 * rng.standard_normal(value.shape)).astype(np.float32) for name, value in weights.items()}


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_conversion_round_trip(params):
    assert_equal(
        tasnet_weights.from_published(tasnet_weights.to_published(params, TINY), TINY, CHANNELS, "a.pth"), params
    )
    weights = random_weights(TINY)
    assert_equal(
        tasnet_weights.to_published(tasnet_weights.from_published(weights, TINY, CHANNELS, "a.pth"), TINY), weights
    )


@pytest.mark.torch
def test_published_weights_give_the_same_output_as_in_pytorch():
    import torch

    from benchmarks.torch_twins.cantisani2021 import Twin

    weights = random_weights(SYSTEM.network)
    twin = Twin(SYSTEM)
    twin.tasnet.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    mixture, stride = signal(203), SYSTEM.window // 2
    estimates = run(tasnet_weights.from_published(weights, SYSTEM.network, CHANNELS, "a.pth"), mixture, SYSTEM.network)
    with torch.no_grad():
        tensor = torch.from_numpy(mixture)
        expected = twin(tensor).numpy()
        # The overlap-add of the twin equals a transposed convolution.
        encoded = twin.tasnet.encoder.conv1d_U(tensor.swapaxes(1, 2)).relu()
        masks = twin.tasnet.separator.network(encoded).relu().unflatten(1, (4, SYSTEM.filters))
        windows = twin.tasnet.decoder.basis_signals.weight.T.reshape(SYSTEM.filters, CHANNELS, SYSTEM.window)
        added = [torch.conv_transpose1d(encoded * masks[:, number], windows, stride=stride) for number in range(4)]
    tolerance = 1e-5 * np.abs(expected).max()
    assert tolerance > 1e-7
    np.testing.assert_allclose(estimates, expected, atol=tolerance)
    np.testing.assert_allclose(estimates[:, :, :200], torch.stack(added, 1).swapaxes(2, 3), atol=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"separator.network.1.weight": None}, "1 are missing, such as separator.network.1.weight"),
        ({"decoder.bias": np.zeros(3)}, "1 are left over, such as decoder.bias"),
        (
            {"separator.network.1.weight": None, "encoder.conv1d_U.weight": None, "z": np.zeros(1), "y": np.zeros(1)},
            "2 are missing, such as encoder.conv1d_U.weight and 2 are left over, such as y",
        ),
    ],
)
def test_weights_of_another_form_are_refused(change, message):
    weights = {name: value for name, value in {**random_weights(TINY), **change}.items() if value is not None}
    with pytest.raises(
        ValueError, match="^a.pth is not a Conv-TasNet of 2 repeats of 2 blocks: of its weights " + message + "$"
    ):
        tasnet_weights.from_published(weights, TINY, CHANNELS, "a.pth")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("encoder.conv1d_U.weight", (8, 1, 6), r"\(8, 2, 6\)"),
        ("encoder.conv1d_U.weight", (8, 6, 2), r"\(8, 2, 6\)"),
        ("decoder.basis_signals.weight", (8, 12), r"\(12, 8\)"),
        ("separator.network.3.weight", (32, 5, 1), r"\(24, 5, 1\)"),
        ("separator.network.2.1.0.net.3.net.0.weight", (7, 1, 5), r"\(7, 1, 3\)"),
        ("separator.network.2.0.1.net.1.weight", (7,), r"\(1,\)"),
        ("separator.network.2.0.1.net.2.gamma", (7,), r"\(1, 7, 1\)"),
    ],
)
def test_weights_of_another_shape_are_refused(name, shape, expected):
    weights = {**random_weights(TINY), name: np.zeros(shape, np.float32)}
    actual = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=f"^a.pth: {name} has the shape {actual}, the network needs {expected}$"):
        tasnet_weights.from_published(weights, TINY, CHANNELS, "a.pth")


def test_a_file_of_weights(tmp_path):
    weights, path = random_weights(SYSTEM.network), tmp_path / "tasnet.safetensors"
    safetensors.numpy.save_file(weights, path)
    variables = SYSTEM.from_file("tasnet", path)
    assert_equal(variables, {"params": tasnet_weights.from_published(weights, SYSTEM.network, 2, "")})
    shapes = jax.eval_shape(lambda: SYSTEM.init(KEY, {}))["params"]["tasnet"]
    assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(lambda leaf: leaf.shape, shapes)


@pytest.mark.torch
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_of_pytorch(wrapped, tmp_path):
    import torch

    weights, path = random_weights(SYSTEM.network), tmp_path / "tasnet.pth"
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    torch.save({"state": tensors, "epoch": 3} if wrapped else tensors, path)
    assert_equal(
        SYSTEM.from_file("tasnet", path), {"params": tasnet_weights.from_published(weights, SYSTEM.network, 2, "")}
    )


@pytest.mark.torch
@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_file_of_demucs_1(opener, tmp_path, monkeypatch):
    """The file holds class, arguments and state in one tuple; the package of the class is not installed."""
    import torch

    package = types.ModuleType("demucs.tasnet")
    package.ConvTasNet = type("ConvTasNet", (), {"__module__": "demucs.tasnet"})
    monkeypatch.setitem(sys.modules, "demucs", types.ModuleType("demucs"))
    monkeypatch.setitem(sys.modules, "demucs.tasnet", package)
    weights, path = random_weights(SYSTEM.network), tmp_path / "tasnet.th"
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    with opener(path, "wb") as file:
        torch.save((package.ConvTasNet, (), {"X": 10}, state), file)
    monkeypatch.delitem(sys.modules, "demucs.tasnet")
    assert_equal(
        SYSTEM.from_file("tasnet", path), {"params": tasnet_weights.from_published(weights, SYSTEM.network, 2, "")}
    )


@pytest.mark.torch
def test_a_file_that_would_run_code_is_refused(tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"state": Evil()}, tmp_path / "evil.th")
    with pytest.raises(
        ValueError, match=r"evil\.th cannot be read as weights: it contains .*\.print, which is not a weight"
    ):
        SYSTEM.from_file("tasnet", tmp_path / "evil.th")


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "tasnet.safetensors"
    safetensors.numpy.save_file(random_weights(TINY), path)
    with pytest.raises(
        ValueError, match=r"tasnet.safetensors is not a Conv-TasNet of 3 repeats of 2 blocks: .* 18 are m"
    ):
        SYSTEM.from_file("tasnet", path)
    with pytest.raises(ValueError, match="there are no published weights of 'query_net'"):
        SYSTEM.from_file("query_net", path)
