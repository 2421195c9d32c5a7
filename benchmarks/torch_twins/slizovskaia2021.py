"""Slizovskaia 2021 in PyTorch: the twin of `qsep_jax.systems.slizovskaia2021`.

The twin takes the weights of the JAX system and gives the same loss and gradients for the same batch. It is written as
is usual in PyTorch: images `[B, C, N, F]`, PyTorch's upsampling and dropout, and fused Adam. Its modules have the names
of the authors' checkpoints, by `qsep_jax.models.conditioned_unet_weights`. It covers models that are
unconditioned or conditioned on labels, with one decoder and ratio masks on linear frequencies in decibels.

    twin = Twin(system)                         # system: `Slizovskaia2021`
    twin.load(variables["params"])              # parameters of the JAX system, as numpy arrays
    loss = twin.losses("separation", batch)     # batch: tensors of the phase's stream
"""

import math
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
from qsep_jax.models.conditioned_unet_weights import unet_name
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
        self.fc = nn.ModuleDict({"linear": nn.Linear(condition, 2 * channels)})

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, bias = self.fc["linear"](condition)[..., None, None].chunk(2, 1)
        return torch.addcmul(bias, x, 1 + scale)


class EncoderLevel(nn.Module):
    """Convolution with a stride of 2, batch norm, and FiLM where `condition` is not 0."""

    def __init__(self, inputs: int, outputs: int, condition: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, 2, padding=1, bias=False)
        self.bn = _batch_norm(outputs)
        self.conditioning = ChannelFiLM(condition, outputs) if condition else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return functional.leaky_relu_(self.conditioning(x, condition) if self.conditioning else x, 0.2)


class Separator(nn.Module):
    """Spectrograms `[B, N, F]` and conditions `[B, Z]` → maps `[B, K, N, F]`."""

    def __init__(self, system: Slizovskaia2021):
        super().__init__()
        channels, classes, self.place = system.channels, len(system.stems), system.separator.film
        *pairs, last = zip((1, *channels[:-1]), channels, strict=True)
        by_level = classes if self.place == "encoder" else 0
        levels = [EncoderLevel(*pair, by_level) for pair in pairs]
        self.encoder = nn.ModuleList([*levels, nn.Conv2d(*last, 4, 2, padding=1, bias=False)])
        if self.place in ("bottleneck", "final"):
            self.film = ChannelFiLM(classes, channels[-1] if self.place == "bottleneck" else classes)
        # From the deepest level to the outermost, with a list of the decoders of a level, here one.
        self.decoder = nn.ModuleList()
        sizes = zip((1, *channels[:-1]), channels, (classes, *channels[:-1]), strict=True)
        for skip, below, features in reversed(list(sizes)):
            conv = nn.Conv2d(skip + below, features, 3, padding=1, bias=False)
            self.decoder.append(nn.ModuleList([nn.ModuleList([conv, _batch_norm(features)])]))
        self.dropout = nn.Dropout(system.dropout)

    def forward(self, x: Tensor, condition: Tensor, noise: tuple[Tensor, ...]) -> Tensor:
        x, skips = x[:, None], []
        for layer in self.encoder:
            skips.append(x)
            x = layer(x, condition) if isinstance(layer, EncoderLevel) else layer(x)
        x = _upsample(self.film(x, condition) if self.place == "bottleneck" else x)
        for level, decoders in zip(reversed(range(len(skips))), self.decoder, strict=True):
            (layers,) = decoders  # pyright: ignore[reportGeneralTypeIssues]
            conv, norm = layers
            x = functional.relu_(norm(conv(torch.cat([x, skips[level]], 1))))
            x = x * noise[level] if noise else self.dropout(x)
            x = _upsample(x) if level else x
        return self.film(x, condition) if self.place == "final" else x


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
            module = unet_name(path[1:-1], len(self.system.channels))
            name = f"{path[0]}.{module}.{'bias' if path[-1] == 'bias' else 'weight'}"
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
