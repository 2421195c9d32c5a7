"""Residual networks in PyTorch with the parameter names of torchvision, which the tests do not require."""

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class TorchBlock(nn.Module):
    """A block such as `layer1.0`; with `dilated` in the form that Sound of Pixels uses in the last stage."""

    def __init__(self, inputs, width, stride, bottleneck, dilated):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        real_stride = 1 if dilated else stride
        windows = [1, 3, 1] if bottleneck else [3, 3]
        sizes = [inputs, width, width, outputs] if bottleneck else [inputs, width, outputs]
        for number, window in enumerate(windows):
            has_stride = number == (1 if bottleneck else 0)
            # A convolution that loses a stride of 2 keeps half of the dilation, 1; the others get all of it, 2.
            dilation = 2 if dilated and window == 3 and not (has_stride and stride == 2) else 1
            conv = nn.Conv2d(
                sizes[number],
                sizes[number + 1],
                window,
                real_stride if has_stride else 1,
                dilation * (window // 2),
                dilation,
                bias=False,
            )
            setattr(self, f"conv{number + 1}", conv)
            setattr(self, f"bn{number + 1}", nn.BatchNorm2d(sizes[number + 1]))
        self.count = len(windows)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, real_stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    def __init__(self, blocks, width, bottleneck, dilated=False, classes=0):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.dilated, self.stages, inputs = dilated, len(blocks), width
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                dilate = dilated and stage == self.stages - 1
                layers.append(TorchBlock(inputs, width * 2**stage, stride, bottleneck, dilate))
                inputs = width * 2**stage * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        if classes:
            self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x if self.dilated else x.mean((2, 3))


def randomised(network, seed=0):
    """Set random batch norm parameters and statistics; return the network in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data = 0.3 * torch.randn(tensor.shape, generator=generator)
    return network.eval()


def weights_of(network, prefix=""):
    """Return the state dict as numpy arrays."""
    return {f"{prefix}{name}": value.numpy().copy() for name, value in network.state_dict().items()}


def to_torch(images):
    """Convert `[B, H, W, C]` to a tensor `[B, C, H, W]`."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def hugging_face(weights):
    """Rename weights to the names of Hugging Face's ResNet."""
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".")
        kind = {"conv": "convolution", "bn": "normalization"}
        if parts[0] == "fc":
            new = f"classifier.1.{parts[1]}"
        elif not parts[0].startswith("layer"):
            new = f"resnet.embedder.embedder.{kind[parts[0][:-1]]}.{parts[1]}"
        else:
            block = f"resnet.encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
            if parts[2] == "downsample":
                new = f"{block}.shortcut.{('convolution', 'normalization')[int(parts[3])]}.{parts[4]}"
            else:
                number = int(parts[2][-1]) - 1
                new = f"{block}.layer.{number}.{kind[parts[2][:-1]]}.{parts[3]}"
        renamed[new] = value
    return renamed
