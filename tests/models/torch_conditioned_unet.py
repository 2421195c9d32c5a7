"""The networks of Slizovskaia et al. 2021 in PyTorch, with the parameter names of the authors' checkpoints."""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from tests.models.torch_resnet import TorchResNet


class Film(nn.Module):
    """`(1 + γ) x + β`, whose linear layer has the name `fc.linear`."""

    def __init__(self, condition, channels):
        super().__init__()
        self.fc = nn.Module()
        self.fc.linear = nn.Linear(condition, 2 * channels)

    def forward(self, x, context):
        gamma, beta = self.fc.linear(context)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * x + beta


class EncoderLevel(nn.Module):
    def __init__(self, inputs, outputs, condition):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.conditioning = Film(condition, outputs) if condition else None

    def forward(self, x, context):
        x = self.bn(self.conv(x))
        x = self.conditioning(x, context) if self.conditioning else x
        return nn.functional.leaky_relu(x, 0.2)


class ConditionedUNet(nn.Module):
    """Spectrograms `[B, 1, F, T]` and contexts → maps `[B, K, F, T]` before the masks."""

    def __init__(self, channels, sources, heads, film, condition):
        super().__init__()
        self.position, levels = film, len(channels)
        pairs = list(zip((1, *channels[:-1]), channels, strict=True))
        self.encoder = nn.ModuleList(EncoderLevel(*pair, condition if film == "encoder" else 0) for pair in pairs[:-1])
        self.encoder.append(nn.Conv2d(*pairs[-1], 4, 2, 1, bias=False))
        if film in ("bottleneck", "final"):
            self.film = Film(condition, channels[-1] if film == "bottleneck" else sources)
        self.decoder = nn.ModuleList()
        for level in reversed(range(levels)):
            skip = channels[level - 1] if level else 1
            outputs = skip if level else (1 if heads else sources)
            self.decoder.append(
                nn.ModuleList(
                    nn.Sequential(
                        nn.Conv2d(skip + channels[level], outputs, 3, padding=1, bias=False),
                        nn.BatchNorm2d(outputs),
                        nn.ReLU(),
                        nn.Dropout(0.2),
                        *([nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)] if level else []),
                    )
                    for _ in range(sources if heads else 1)
                )
            )
        # What the authors' network creates and does not use.
        self.output = nn.ModuleList([nn.Conv2d(3, 3, 1, bias=False)])
        self.classifier = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, sources))

    def forward(self, x, context=None):
        skips = [x]
        for level in self.encoder[:-1]:
            x = level(x, context)
            skips.append(x)
        x = self.encoder[-1](x)
        x = self.film(x, context) if self.position == "bottleneck" else x
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        outputs = [x] * len(self.decoder[0])
        for blocks, skip in zip(self.decoder, reversed(skips), strict=True):
            outputs = [block(torch.cat([skip, output], dim=1)) for block, output in zip(blocks, outputs, strict=True)]
        x = torch.cat(outputs, dim=1)
        return self.film(x, context) if self.position == "final" else x


class Visual(nn.Module):
    """Frames `[B, S, n, 3, H, W]` → context `[B, hidden]`, or probabilities of `classes` instruments."""

    def __init__(self, resnet, hidden, lstm, classes):
        super().__init__()
        self.model, self.hidden = resnet, hidden
        if lstm:
            self.LSTM = nn.LSTM(lstm, hidden, batch_first=True)
        if classes:
            self.fc = nn.Sequential(nn.Linear(hidden, classes), nn.Softmax(dim=-1))

    def forward(self, frames):
        features = self.model(frames.flatten(0, 2)).unflatten(0, frames.shape[:3]).flatten(1, 2)
        if hasattr(self, "LSTM"):
            context = self.LSTM(features)[1][0][-1]
        else:
            context = nn.functional.adaptive_max_pool1d(features, self.hidden).amax(1)
        return self.fc(context) if hasattr(self, "fc") else context


class WithVideo(nn.Module):
    def __init__(self, audio, visual):
        super().__init__()
        self.audio, self.visual = audio, visual


def network_of(system):
    """The authors' network for one of our systems."""
    unet, visual = system.separator, system.visual
    condition = visual.hidden if visual else len(system.stems)
    audio = ConditionedUNet(system.channels, len(system.stems), system.heads, unet.film, condition)
    if not visual:
        return audio
    resnet = TorchResNet(visual.resnet.blocks, visual.resnet.width, visual.resnet.bottleneck)
    lstm = visual.resnet.features if visual.summary == "lstm" else 0
    classes = len(system.stems) if system.asks_who_plays else 0
    return WithVideo(audio, Visual(resnet, visual.hidden, lstm, classes))
