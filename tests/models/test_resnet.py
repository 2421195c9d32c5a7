"""Tests of residual networks against PyTorch with the same weights: values, gradients and running statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ImageConv, ResNet, ResNetSize
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)
# Blocks, width, bottleneck, dilated, image size.
CASES = [
    ((2, 1, 1, 2), 8, True, False, (64, 64)),
    ((1, 2, 1, 1), 8, False, False, (45, 37)),
    ((1, 1, 1, 2), 8, False, True, (64, 48)),
    ((1, 1, 2), 4, True, True, (38, 42)),
]
EIGHTEEN = ResNetSize((2, 2, 2, 2), 64, bottleneck=False)


def images_of(size, batch=3, seed=0):
    return np.random.default_rng(seed).random((batch, *size, 3), np.float32)


@pytest.mark.parametrize(("size", "count", "features"), [(ResNetSize(), 23_508_032, 2048), (EIGHTEEN, 11_176_512, 512)])
def test_the_published_parameter_counts(size, count, features):
    """torchvision has 25,557,032 and 11,689,512 parameters including the last layer of 1,000 classes."""
    network = size.network()
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    output, variables = jax.eval_shape(lambda x: network.init_with_output(KEY, x, False), images)
    assert parameter_count(variables["params"]) == count
    assert count + 1000 * (features + 1) in (25_557_032, 11_689_512)
    assert output.shape == (2, features)
    assert size.features == features


def test_the_dilated_form_reduces_the_image_to_a_sixteenth():
    network = EIGHTEEN.network(dilated=True)
    shape = jax.eval_shape(lambda: network.init_with_output(KEY, jnp.zeros((1, 224, 224, 3)), False))[0].shape
    assert shape == (1, 14, 14, 512)


def torch_twin(case):
    """Create a PyTorch network with random weights, our network, and its variables."""
    import torch

    from tests.models.torch_resnet import TorchResNet, randomised, weights_of

    torch.manual_seed(0)
    blocks, width, bottleneck, dilated, _ = case
    torch_network = randomised(TorchResNet(blocks, width, bottleneck, dilated))
    ours = ResNet(blocks, width, bottleneck, dilated)
    return torch_network, ours, torch_weights.resnet(weights_of(torch_network), ours)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_pytorch(case):
    from tests.models.torch_resnet import to_torch

    torch_network, ours, variables = torch_twin(case)
    images = images_of(case[-1])
    expected = torch_network(to_torch(images)).detach().numpy()
    expected = np.moveaxis(expected, 1, -1) if case[3] else expected
    output = jax.jit(lambda x: ours.apply(variables, x, False))(images)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES[:3:2], ids=str)
def test_training_updates_the_same_statistics_and_gives_the_same_gradients(case):
    """PyTorch multiplies the variance of a batch of n pixels by n / (n − 1) before it updates the running one."""
    import torch

    from tests.models.torch_resnet import to_torch, weights_of

    torch_network, ours, variables = torch_twin(case)
    images = images_of(case[-1])
    torch_network.train()
    loss = torch.sin(torch_network(to_torch(images))).sum()
    loss.backward()

    @jax.jit
    def gradients(params):
        def value(params):
            output, changed = ours.apply({**variables, "params": params}, images, True, mutable=["batch_stats"])
            return jnp.sin(output).sum(), changed

        return jax.value_and_grad(value, has_aux=True)(params)

    (value, changed), ours_gradients = gradients(variables["params"])
    assert float(value) == pytest.approx(loss.item(), rel=1e-4, abs=1e-3)
    torch_statistics = torch_weights.resnet(weights_of(torch_network), ours)["batch_stats"]
    for name, before in variables["batch_stats"]["stem_norm"].items():
        after, expected = changed["batch_stats"]["stem_norm"][name], torch_statistics["stem_norm"][name]
        if name == "var":
            pixels = 3 * case[-1][0] * case[-1][1] // 4
            expected = 0.9 * before + (expected - 0.9 * before) * (pixels - 1) / pixels
        assert np.abs(after - before).max() > 1e-3
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
    for path in (("stage_3_block_0", "norm_0"), ("stage_3_block_0", "shortcut_norm")):
        after, expected = (tree[path[0]][path[1]]["mean"] for tree in (changed["batch_stats"], torch_statistics))
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)
    named = {name: parameter.grad for name, parameter in torch_network.named_parameters()}
    for name, tensor in torch_network.state_dict().items():
        named.setdefault(name, tensor)
    torch_gradients = torch_weights.resnet({name: value.numpy() for name, value in named.items()}, ours)["params"]
    for ours_leaf, torch_leaf in zip(jax.tree.leaves(ours_gradients), jax.tree.leaves(torch_gradients), strict=True):
        np.testing.assert_allclose(ours_leaf, torch_leaf, rtol=1e-2, atol=1e-3 * np.abs(torch_leaf).max())


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
@pytest.mark.parametrize(("window", "stride", "dilation"), [(1, 2, 1), (3, 2, 1), (3, 1, 2)])
def test_convolutions_and_their_gradients(window, stride, dilation, size):
    x = jax.random.normal(KEY, (2, *size, 6))
    layer, edge = ImageConv(5, window, stride, dilation), dilation * (window // 2)
    kernel = jax.random.normal(KEY, (window, window, 6, 5))

    def native(kernel, x):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(edge, edge)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def ours(kernel, x):
        return layer.apply({"params": {"kernel": kernel}}, x)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, kernel, x):
        value, pull = jax.vjp(function, kernel, x)
        return value, *pull(jnp.cos(jnp.arange(float(value.size)).reshape(value.shape)))

    actual, expected = (value_and_gradients(function, kernel, x) for function in (ours, native))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), actual, expected)


def test_absent_images_do_not_affect_the_statistics():
    network = ResNet((1, 1), 4, True)
    images = images_of((32, 32), 4)
    variables = jax.jit(lambda: network.init(KEY, images, False))()
    present = np.array([1, 1, 0, 0])

    @jax.jit
    def update(images, present=None):
        return network.apply(variables, images, True, present, mutable=["batch_stats"])

    features, stats = update(images, present)
    other = np.concatenate([images[:2], 9 * images[2:]])
    same_features, same_stats = update(other, present)
    for others in (same_stats, update(images[:2])[1]):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), stats, others)
    np.testing.assert_allclose(features[:2], same_features[:2], rtol=1e-4)
    with_all, without = (tree["batch_stats"]["stem_norm"]["mean"] for tree in (update(other)[1], stats))
    assert not np.allclose(with_all, without, rtol=1e-2)


def test_bfloat16_gives_float32_features_close_to_those_of_float32():
    size, images = ResNetSize((1, 1), 8), images_of((32, 32))
    variables = jax.jit(lambda: size.network().init(KEY, images, False))()

    @partial(jax.jit, static_argnums=0)
    def features(dtype):
        return size.network(dtype).apply(variables, images, False)

    wide, half = (features(dtype) for dtype in ("float32", "bfloat16"))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - wide).max() < 0.05 * np.abs(wide).max()


def test_an_empty_stage_is_refused():
    with pytest.raises(ValueError, match=r"every stage needs a block .* not blocks \(3, 0\) and width 64"):
        ResNetSize((3, 0))
