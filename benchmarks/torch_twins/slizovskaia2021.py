"""Slizovskaia 2021 in PyTorch: the twin of `qsep_jax.systems.slizovskaia2021`.

The twin takes the weights of the JAX system and gives the same loss and gradients for the same batch. It is written as
is usual in PyTorch: images `[B, C, N, F]`, PyTorch's upsampling and dropout, and fused Adam. It covers models that are
unconditioned or conditioned on labels, with one decoder and ratio masks on linear frequencies in decibels.

    twin = Twin(system)                         # system: `Slizovskaia2021`
    twin.load(variables["params"])              # parameters of the JAX system, as numpy arrays
    loss = twin.losses("separation", batch)     # batch: tensors of the phase's stream
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from flax import traverse_util
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.torch_twins.parts import LoadableTwin, adam, require_defaults
from data_pipelines.schema import SLOTS, SOURCES
from qsep_jax.nn.dropout import dropout
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021

Tree = dict[str, Any]

FLOOR, GAIN = 1e-4, 2.0**16
# Fields of the system that must have their defaults; their other values are not timed.
FIXED_FIELDS = (
    "frequency_scale",
    "level_scale",
    "input_noise",
    "heads",
    "output",
    "competing",
    "film_offset",
    "multiply",
    "visual",
    "common_gain",
    "curriculum",
    "classifier_weight",
)


class ChannelFiLM(nn.Module):
    """`(1 + γ) · x + β` with a scale and a bias for every channel."""

    def __init__(self, condition: int, channels: int):
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, bias = self.linear(condition)[..., None, None].chunk(2, 1)
        return torch.addcmul(bias, x, 1 + scale)


class Decoder(nn.Module):
    """Bottleneck and skips → maps `[B, K, N, F]`."""

    def __init__(self, system: Slizovskaia2021):
        super().__init__()
        channels = system.channels
        skips, outputs = (1, *channels[:-1]), (len(system.stems), *channels[:-1])
        inputs = [skip + below for skip, below in zip(skips, channels, strict=True)]
        self.up = nn.ModuleList(
            nn.Conv2d(size, features, 3, padding=1, bias=False) for size, features in zip(inputs, outputs, strict=True)
        )
        self.norm = nn.ModuleList(_batch_norm(features) for features in outputs)
        self.dropout = nn.Dropout(system.dropout)

    def forward(self, bottleneck: Tensor, skips: list[Tensor], noise: tuple[Tensor, ...]) -> Tensor:
        x = _upsample(bottleneck)
        for level in reversed(range(len(skips))):
            x = functional.relu_(self.norm[level](self.up[level](torch.cat([x, skips[level]], 1))))
            x = x * noise[level] if noise else self.dropout(x)
            x = _upsample(x) if level else x
        return x


class Separator(nn.Module):
    """Spectrograms `[B, N, F]` and conditions `[B, Z]` → maps `[B, K, N, F]`."""

    def __init__(self, system: Slizovskaia2021):
        super().__init__()
        channels, self.film = system.channels, system.separator.film
        pairs = zip((1, *channels[:-1]), channels, strict=True)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 4, 2, padding=1, bias=False) for pair in pairs)
        self.norm = nn.ModuleList(_batch_norm(features) for features in channels[:-1])
        self.decoder, classes = Decoder(system), len(system.stems)
        if self.film == "encoder":
            self.film_ = nn.ModuleList(ChannelFiLM(classes, features) for features in channels[:-1])
        elif self.film == "bottleneck":
            self.film_bottleneck = ChannelFiLM(classes, channels[-1])
        elif self.film == "final":
            self.film_final = ChannelFiLM(classes, classes)

    def forward(self, x: Tensor, condition: Tensor, noise: tuple[Tensor, ...]) -> Tensor:
        x, skips = x[:, None], []
        for level, conv in enumerate(self.down):
            skips.append(x)
            x = conv(x)
            if level < len(self.norm):
                x = self.norm[level](x)
                x = self.film_[level](x, condition) if self.film == "encoder" else x
                x = functional.leaky_relu_(x, 0.2)
        x = self.film_bottleneck(x, condition) if self.film == "bottleneck" else x
        x = self.decoder(x, skips, noise)
        return self.film_final(x, condition) if self.film == "final" else x


class Twin(LoadableTwin):
    """The complete system, and the loss of its phase.

    Raises:
      NotImplementedError: if a field of the system in `FIXED_FIELDS` does not have its default.
    """

    window: Tensor

    def __init__(self, system: Slizovskaia2021):
        super().__init__()
        require_defaults(system, FIXED_FIELDS, "one form")
        self.system, self.separator = system, Separator(system)
        self.register_buffer("window", torch.hann_window(system.window_length), persistent=False)

    def losses(self, phase: str, batch: dict[str, Tensor], noise: tuple[Tensor, ...] = ()) -> Tensor:
        """The loss of a batch of `MixAndSeparate`; `noise` has the factors of the dropout, by level."""
        classes = len(self.system.stems)
        # Empty slots become an additional class, which is then dropped.
        labels = functional.one_hot(batch[SLOTS].long() % (classes + 1), classes + 1)[..., :classes]
        spectrograms = self._stft(batch[SOURCES][..., 0])
        labels = labels.to(spectrograms.real.dtype)
        mixture = spectrograms.sum(1) / labels.sum((1, 2))[:, None, None]
        magnitudes = labels.sum(2)[..., None, None] * (spectrograms.abs() + FLOOR)
        sources = torch.einsum("bsk,bsnf->bknf", labels, magnitudes)
        condition = labels.sum(1)
        maps = self.separator(self._normalised(mixture.abs() + FLOOR), condition, noise)
        if self.system.conditioning == "multiply":
            maps = maps * condition[..., None, None]
        masks = sources / sources.sum(1, keepdim=True)
        return functional.mse_loss(_at_least_float32(maps).softmax(1), masks)

    def _normalised(self, magnitude: Tensor) -> Tensor:
        level = torch.log1p(GAIN * magnitude) / math.log1p(GAIN)
        low, high = level.amin((1, 2), keepdim=True), level.amax((1, 2), keepdim=True)
        return 2 * (level - low) / (high - low) - 1

    def _stft(self, signal: Tensor) -> Tensor:
        """The complex STFT `[B, S, N, F]` of signals `[B, S, T]`."""
        window, hop = self.system.window_length, self.system.hop_length
        low = (window - hop) // 2
        padded = functional.pad(signal, (low, window - hop - low), mode="reflect").flatten(0, 1)
        spectrogram = torch.stft(padded, window, hop, window=self.window, center=False, return_complex=True)
        return spectrogram.transpose(1, 2).unflatten(0, signal.shape[:2])

    def named(self, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        leaves: Any = traverse_util.flatten_dict(params)
        for path, leaf in leaves.items():
            module = re.sub(r"_(\d+)", r".\1", ".".join(path[:-1])).replace("film.", "film_.")
            name = f"{module}.{'bias' if path[-1] == 'bias' else 'weight'}"
            yield name, np.transpose(leaf, (3, 2, 0, 1)) if leaf.ndim == 4 else leaf.T


def jax_noise(system: Slizovskaia2021, key: jax.Array, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The factors of the dropout that the JAX loss draws from `key`, `[B, C, N, F]` for each level of the decoder."""
    if not system.dropout:
        return ()
    decoder_key = jax.random.fold_in(jax.random.split(key, 3)[2], 0)
    factors = []
    for level, channels in enumerate((len(system.stems), *system.channels[:-1])):
        shape = (len(batch[SLOTS]), system.frames >> level, system.bins >> level, channels)
        level_factors = dropout(jnp.ones(shape), jax.random.fold_in(decoder_key, level), system.dropout)
        factors.append(torch.from_numpy(np.array(level_factors)).permute(0, 3, 1, 2))
    return tuple(factors)


make_optimizer = adam


def _batch_norm(features: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features, eps=1e-5, momentum=0.1)


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
