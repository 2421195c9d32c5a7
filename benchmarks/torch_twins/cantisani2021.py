"""Conv-TasNet of Cantisani 2021 in PyTorch: the twin of `qsep_jax.systems.cantisani2021`.

Its parameters have the names of the published network (demucs, version 1), so that it loads what a public checkpoint
contains. It is written as is usual in PyTorch: convolutions over `[B, F, N]`, and fused Adam.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.torch_twins.parts import LoadableTwin, adam
from data_pipelines.schema import MIXTURE, SOURCES
from qsep_jax.models import tasnet_weights
from qsep_jax.nn.tcn import EPSILON
from qsep_jax.systems.cantisani2021 import QUIET, Cantisani2021

Tree = dict[str, Any]

LAYOUTS = ("contiguous",)


class Norm(nn.Module):
    """Normalisation of `[B, H, N]` with statistics over the axes `over`."""

    def __init__(self, features: int, over: tuple[int, ...]):
        super().__init__()
        self.over = over
        self.gamma, self.beta = nn.Parameter(torch.ones(1, features, 1)), nn.Parameter(torch.zeros(1, features, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, self.over, correction=0, keepdim=True)
        return self.gamma * (x - mean) * (variance + EPSILON).rsqrt() + self.beta


class Depthwise(nn.Module):
    def __init__(self, features: int, hidden: int, kernel: int, dilation: int):
        super().__init__()
        padding = dilation * (kernel // 2)
        conv = nn.Conv1d(hidden, hidden, kernel, padding=padding, dilation=dilation, groups=hidden, bias=False)
        outward = nn.Conv1d(hidden, features, 1, bias=False)
        self.net = nn.Sequential(conv, nn.PReLU(), Norm(hidden, (1, 2)), outward)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    def __init__(self, features: int, hidden: int, kernel: int, dilation: int):
        super().__init__()
        inward = nn.Conv1d(features, hidden, 1, bias=False)
        depthwise = Depthwise(features, hidden, kernel, dilation)
        self.net = nn.Sequential(inward, nn.PReLU(), Norm(hidden, (1, 2)), depthwise)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, filters: int, window: int):
        super().__init__()
        self.conv1d_U = nn.Conv1d(channels, filters, window, stride=window // 2, bias=False)


class Separator(nn.Module):
    def __init__(self, system: Cantisani2021):
        super().__init__()
        features, hidden = system.bottleneck, system.hidden
        repeats = (
            nn.Sequential(*(Block(features, hidden, system.kernel, 2**number) for number in range(system.blocks)))
            for _ in range(system.repeats)
        )
        self.network = nn.Sequential(
            Norm(system.filters, (1,)),
            nn.Conv1d(system.filters, features, 1, bias=False),
            nn.Sequential(*repeats),
            nn.Conv1d(features, len(system.stems) * system.filters, 1, bias=False),
        )


class Decoder(nn.Module):
    def __init__(self, channels: int, filters: int, window: int):
        super().__init__()
        self.basis_signals = nn.Linear(filters, channels * window, bias=False)


class TasNet(nn.Module):
    def __init__(self, system: Cantisani2021):
        super().__init__()
        self.encoder = Encoder(system.channels, system.filters, system.window)
        self.separator = Separator(system)
        self.decoder = Decoder(system.channels, system.filters, system.window)


class Twin(LoadableTwin):
    """The network and the loss of waveforms."""

    def __init__(self, system: Cantisani2021):
        super().__init__()
        self.system = system
        # Named like the network that the phase trains.
        self.tasnet = TasNet(system)

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimates `[B, S, T, C]` of the sources of a mixture `[B, T, C]`."""
        system, (batch, samples, channels) = self.system, mixture.shape
        encoded = self.tasnet.encoder.conv1d_U(mixture.transpose(1, 2)).relu()  # [B, F, N]
        masks = self.tasnet.separator.network(encoded).relu()
        masked = masks.view(batch, len(system.stems), system.filters, -1) * encoded[:, None]
        frames = self.tasnet.decoder.basis_signals(masked.transpose(2, 3))  # [B, S, N, C · L]
        frames = frames.unflatten(-1, (channels, system.window))
        first, second = frames.chunk(2, -1)
        overlapped = functional.pad(first, (0, 0, 0, 0, 0, 1)) + functional.pad(second, (0, 0, 0, 0, 1, 0))
        audio = overlapped.transpose(2, 3).flatten(3)  # [B, S, C, T]
        return functional.pad(audio, (0, samples - audio.shape[-1])).transpose(2, 3)

    def losses(self, phase: str, batch: dict[str, Tensor], noise: tuple[Tensor, ...] = ()) -> Tensor:
        """The loss of the only phase."""
        unit = batch[MIXTURE].mean(-1).std(-1, correction=0).clamp_min(QUIET)
        difference = (self(batch[MIXTURE]) - batch[SOURCES]) / unit[:, None, None, None]
        return difference.abs().mean()

    def named(self, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        for name, value in tasnet_weights.to_published(params["tasnet"], self.system.network).items():
            yield f"tasnet.{name}", value


def jax_noise(system: Cantisani2021, key: jax.Array, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The noise that the JAX loss draws from `key`: none."""
    return ()


make_optimizer = adam
