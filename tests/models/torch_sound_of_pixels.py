"""The networks of Sound of Pixels in PyTorch, with the parameter names of the published files."""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from tests.models.torch_resnet import TorchResNet


class Level(nn.Module):
    """One level of the U-Net with all deeper levels in one list `model`; concatenates its input to its output."""

    def __init__(self, widths, level, outputs):
        super().__init__()
        self.outermost = level == 0
        innermost = level == len(widths) - 1
        above, here = (1 if self.outermost else widths[level - 1]), widths[level]
        after = outputs if self.outermost else above
        layers = [] if self.outermost else [nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(above, here, 4, 2, 1, bias=False))
        if not self.outermost and not innermost:
            layers.append(nn.BatchNorm2d(here))
        if not innermost:
            layers.append(Level(widths, level + 1, outputs))
        layers += [nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)]
        layers.append(nn.Conv2d(here if innermost else 2 * here, after, 3, padding=1, bias=self.outermost))
        if not self.outermost:
            layers.append(nn.BatchNorm2d(after))
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        y = self.model(x)
        return y if self.outermost else torch.cat([x, y], 1)


class TorchSoundNet(nn.Module):
    """Maps log magnitudes `[B, 1, F, N]` to `[B, K, F, N]`."""

    def __init__(self, levels, channels, outputs):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(1)
        self.unet_block = Level([channels * min(2**level, 8) for level in range(levels)], 0, outputs)

    def forward(self, x):
        return self.unet_block(self.bn0(x))


class TorchFrameNet(nn.Module):
    """Maps frames `[B · n, 3, H, W]`, n for each example, to `[B, K]`, including the sigmoid."""

    def __init__(self, blocks, width, outputs):
        super().__init__()
        resnet = TorchResNet(blocks, width, bottleneck=False, dilated=True)
        stages = [getattr(resnet, f"layer{stage + 1}") for stage in range(len(blocks))]
        self.features = nn.Sequential(resnet.conv1, resnet.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1), *stages)
        self.fc = nn.Conv2d(width * 2 ** (len(blocks) - 1), outputs, 3, padding=1)

    def forward(self, x, frames):
        maps = self.fc(self.features(x))
        return torch.sigmoid(maps.amax((2, 3)).reshape(-1, frames, maps.shape[1]).amax(1))


class TorchSynthesizer(nn.Module):
    """Combines the weights of one player `[B, K]` and maps `[B, K, F, N]` to logits `[B, F, N]`."""

    def __init__(self, outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, image, sound):
        return (image * self.scale)[:, :, None, None].mul(sound).sum(1) + self.bias
