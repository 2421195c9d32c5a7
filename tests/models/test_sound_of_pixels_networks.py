"""Tests of the networks of Sound of Pixels against PyTorch with the same weights, and of their published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ResNet
from qsep_jax.models.sound_of_pixels import RESNET_18, FrameHead, SoundNet, Synthesizer
from qsep_jax.systems.base import parameter_count

KEY = jax.random.key(0)


@pytest.mark.parametrize("levels", [7, 5])
def test_parameters(levels):
    """4×4 kernels down; 3×3 up, over twice the channels except for the innermost; 2 parameters per norm channel."""
    widths = [64 * min(2**level, 8) for level in range(levels)]
    down = 16 * sum(a * b for a, b in zip([1, *widths[:-1]], widths, strict=True))
    ups = [(2 * here, above) for above, here in zip([32, *widths[:-2]], widths[:-1], strict=True)]
    up = 9 * (sum(a * b for a, b in ups) + widths[-1] * widths[-2])
    norms = 2 * (1 + sum(widths[1:-1]) + sum(widths[:-1]))
    shapes = jax.eval_shape(lambda: SoundNet(levels).init(KEY, jnp.zeros((1, 256, 256)), False))
    assert parameter_count(shapes["params"]) == down + up + norms + 32
    assert down + up + norms + 32 == {7: 30_274_210, 5: 12_444_322}[levels]


@pytest.mark.torch
@pytest.mark.parametrize("levels", [3, 5])
def test_the_sound_network_equals_pytorch(levels):
    import torch

    from tests.models.torch_resnet import randomised, weights_of
    from tests.models.torch_sound_of_pixels import TorchSoundNet

    torch.manual_seed(0)
    torch_network, ours = randomised(TorchSoundNet(levels, 4, 6)), SoundNet(levels, 4, 6)
    variables = torch_weights.sound_net(weights_of(torch_network), ours)
    size = 2**levels
    magnitude = np.random.default_rng(0).standard_normal((2, 2 * size, size)).astype(np.float32)  # time, frequency
    expected = torch_network(torch.from_numpy(magnitude.swapaxes(1, 2)[:, None].copy())).detach().numpy()
    output = jax.jit(lambda x: ours.apply(variables, x, False))(magnitude)
    expected = expected.transpose(0, 3, 2, 1)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.torch
def test_the_frame_network_equals_pytorch():
    import torch

    from tests.models.torch_resnet import randomised, to_torch, weights_of
    from tests.models.torch_sound_of_pixels import TorchFrameNet

    torch.manual_seed(0)
    blocks, width, frames = (1, 1, 1, 2), 8, 3
    torch_network = randomised(TorchFrameNet(blocks, width, 6))
    weights, resnet, head = weights_of(torch_network), ResNet(blocks, width, False, dilated=True), FrameHead(6)
    parts = torch_weights.resnet(weights, resnet), torch_weights.frame_head(weights, head, 64)
    images = np.random.default_rng(0).random((2 * frames, 48, 48, 3), np.float32)

    @jax.jit
    def run(images):
        maps = resnet.apply(parts[0], images, False)
        return head.apply(parts[1], maps.reshape(2, frames, *maps.shape[1:]))

    np.testing.assert_allclose(run(images), torch_network(to_torch(images), frames).detach().numpy(), rtol=1e-4)


@pytest.mark.torch
def test_the_synthesizer_equals_pytorch():
    import torch

    from tests.models.torch_resnet import weights_of
    from tests.models.torch_sound_of_pixels import TorchSynthesizer

    torch.manual_seed(0)
    torch_network = TorchSynthesizer(6)
    for parameter in torch_network.parameters():
        parameter.data = torch.randn(parameter.shape)
    rng = np.random.default_rng(0)
    image, sound = rng.random((2, 3, 6), np.float32), rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    logits = Synthesizer().apply(torch_weights.synthesizer(weights_of(torch_network), 6), image, sound)
    for player in range(3):
        expected = torch_network(
            torch.from_numpy(image[:, player]), torch.from_numpy(sound.transpose(0, 3, 2, 1).copy())
        )
        np.testing.assert_allclose(logits[:, player], expected.detach().numpy().swapaxes(1, 2), rtol=1e-4, atol=1e-5)


def test_the_output_for_several_frames_is_the_maximum_over_them():
    head = FrameHead(4)
    maps = jax.random.normal(KEY, (2, 3, 2, 2, 8))
    variables = head.init(KEY, maps)
    single = [head.apply(variables, maps[:, frame : frame + 1]) for frame in range(3)]
    np.testing.assert_allclose(head.apply(variables, maps), jnp.stack(single).max(0), rtol=1e-6)


def test_training_normalises_by_the_batch():
    net, magnitude = SoundNet(3, 4, 5), jax.random.normal(KEY, (2, 8, 16))
    variables = jax.jit(lambda: net.init(KEY, magnitude, True))()

    @jax.jit
    def run(magnitude):
        return net.apply(variables, magnitude, True, mutable=["batch_stats"])

    (output, changed), (shifted, _) = run(magnitude), run(3.0 * magnitude + 7.0)
    assert output.shape == (2, 8, 16, 5)
    np.testing.assert_allclose(output, shifted, atol=1e-2 * float(np.abs(output).max()))
    assert output.std() > 1e-5
    stats = changed["batch_stats"]["input_norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * magnitude.mean(), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * magnitude.var(), rtol=1e-4)


def test_the_frame_network_has_the_published_size():
    resnet = RESNET_18.network(dilated=True)
    maps = jax.eval_shape(lambda: resnet.init_with_output(KEY, jnp.zeros((3, 224, 224, 3)), False)[0])
    head = jax.eval_shape(lambda: FrameHead().init_with_output(KEY, jnp.zeros((1, *maps.shape))))
    assert head[0].shape == (1, 32)
    assert parameter_count(head[1]) == 9 * 512 * 32 + 32
