"""Tests of files of PyTorch weights: the names of ResNets, and the errors for files that do not fit."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from qsep_jax.models import torch_weights
from qsep_jax.models.resnet import ResNet
from qsep_jax.models.sound_of_pixels import FrameHead, SoundNet

NETWORK = ResNet((1, 2), 4, bottleneck=True)


@pytest.fixture(scope="module")
def weights():
    """Weights with torchvision's names, including the classifier and the batch counters."""
    pytest.importorskip("torch")
    from tests.models.torch_resnet import TorchResNet, randomised, weights_of

    return weights_of(randomised(TorchResNet((1, 2), 4, True, classes=10)))


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.torch
def test_all_naming_schemes_give_the_same_tree(weights):
    from tests.models.torch_resnet import hugging_face

    expected = torch_weights.resnet(weights, NETWORK)
    assert set(expected) == {"params", "batch_stats"}
    kernel = expected["params"]["stage_1_block_0"]["conv_1"]["kernel"]
    np.testing.assert_array_equal(kernel[2, 0, 3, 5], weights["layer2.0.conv2.weight"][5, 3, 2, 0])
    renamed = hugging_face(weights)
    assert "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight" in renamed
    assert_equal(torch_weights.resnet(renamed, NETWORK), expected)
    bare = {name.removeprefix("resnet."): value for name, value in renamed.items()}
    assert_equal(torch_weights.resnet(bare, NETWORK), expected)
    shapes = jax.eval_shape(lambda: NETWORK.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), False))
    assert jax.tree.structure(shapes) == jax.tree.structure(expected)


@pytest.mark.torch
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files(weights, suffix, wrapped, tmp_path):
    import torch

    path = tmp_path / f"weights{suffix}"
    named = {f"module.{name}" if wrapped else name: value for name, value in weights.items()}
    if suffix == ".safetensors":
        safetensors.numpy.save_file(named, path)
    else:
        tensors = {name: torch.from_numpy(value) for name, value in named.items()}
        torch.save({"state_dict": tensors, "epoch": 3} if wrapped else tensors, path)
    assert_equal(torch_weights.resnet(torch_weights.read(path), NETWORK), torch_weights.resnet(weights, NETWORK))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": np.zeros((4, 1, 7, 7))}, r"'conv1.weight' has shape \[4, 1, 7, 7\], expected \[4, 3, 7, 7\]"),
        ({"bn1.running_var": np.zeros(5)}, r"'bn1.running_var' has shape \[5\], expected \[4\]"),
        ({"layer2.1.conv2.weight": None}, r"lack 'layer2.1.conv2.weight', expected with shape \[8, 8, 3, 3\]"),
        (
            {"layer3.0.conv1.weight": np.zeros((2, 2, 1, 1))},
            r"contain 'layer3.0.conv1.weight' with shape \[2, 2, 1, 1\]",
        ),
    ],
)
def test_errors_name_the_weight_that_does_not_fit(weights, change, message):
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        torch_weights.resnet(changed, NETWORK)


@pytest.mark.torch
def test_errors_name_the_weight_that_does_not_fit_sound_of_pixels():
    from tests.models.torch_resnet import weights_of
    from tests.models.torch_sound_of_pixels import TorchFrameNet, TorchSoundNet

    sound = weights_of(TorchSoundNet(5, 4, 6))
    with pytest.raises(
        ValueError, match=r"'unet_block.model.4.weight' has shape \[6, 8, 3, 3\], expected \[8, 8, 3, 3\]"
    ):
        torch_weights.sound_net(sound, SoundNet(5, 4, 8))
    deeper = r"lack 'unet_block.model.1(.model.3){3}.model.2.bias', expected with shape \[32\]"
    with pytest.raises(ValueError, match=deeper):
        torch_weights.sound_net(sound, SoundNet(6, 4, 6))
    frame = weights_of(TorchFrameNet((1, 1), 4, 6))
    with pytest.raises(ValueError, match=r"'fc.weight' has shape \[6, 8, 3, 3\], expected \[6, 16, 3, 3\]"):
        torch_weights.frame_head(frame, FrameHead(6), 16)
    with pytest.raises(ValueError, match=r"'scale' has shape \[3\], expected \[6\]"):
        torch_weights.synthesizer({"scale": np.ones(3), "bias": np.ones(1)}, 6)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"must end with .safetensors, .pth"):
        torch_weights.read(tmp_path / "weights.npz")
    with pytest.raises(ValueError, match="there is no file"):
        torch_weights.read(tmp_path / "weights.pth")
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as weights: its header is cut short"):
        torch_weights.read(damaged)
    safetensors.numpy.save_file({"a": np.array([1.0, np.inf])}, damaged)
    with pytest.raises(ValueError, match="the weight 'a' holds values that are not finite"):
        torch_weights.read(damaged)


@pytest.mark.torch
def test_only_tensors_are_unpickled(tmp_path):
    import torch

    torch.save({"conv1.weight": tmp_path}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        torch_weights.read(tmp_path / "weights.pth")
