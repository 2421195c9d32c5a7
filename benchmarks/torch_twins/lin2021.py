"""Lin 2021 in PyTorch: the twin of `qsep_jax.systems.lin2021`, with the forms of the authors' code.

The twin takes the weights of the JAX system and gives the same losses and gradients for the same batch. It is written
as is usual in PyTorch: images `[B, C, N, F]` and fused AMSGrad. Both sources of a mixture are in one batch (first the
first sources of all mixtures, then the second ones). As in the JAX system, the layers before the first FiLM run once
per mixture.

    twin = Twin(system)                         # system: `Lin2021`
    twin.load(variables["params"])              # parameters of the JAX system, as numpy arrays
    loss = twin.losses("tasks", batch)          # batch: tensors of the phase's stream
"""

import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from flax import traverse_util
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.torch_twins.parts import LoadableTwin, adam, require_defaults
from data_pipelines.schema import CLASSES, LOWEST_PITCH, NOTES, OTHERS, QUERIES, SILENCE_CLASS, SOURCES
from qsep_jax.systems.lin2021 import Lin2021

Tree = dict[str, Any]

# Fields of the system that must have their defaults; their other values (the paper's) are not timed.
FIXED_FIELDS = (
    "fft_length",
    "query_layers",
    "pooling",
    "normalise_timbre",
    "query_form",
    "query_clips",
    "second_mixture",
    "joint",
)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm and ReLU, `layers` times."""

    def __init__(self, inputs: int, features: int, layers: int = 1):
        super().__init__()
        sizes = (inputs, *[features] * (layers - 1))
        self.conv = nn.ModuleList(nn.Conv2d(size, features, 3, padding=1, bias=False) for size in sizes)
        self.norm = nn.ModuleList(_batch_norm(features) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.conv, self.norm, strict=True):
            x = functional.relu_(norm(conv(x)))
        return x


class FiLM(nn.Module):
    """`γ · x + β` with a scale and a bias for every channel and bin, both linear in the condition."""

    def __init__(self, latent: int, channels: int, bins: int):
        super().__init__()
        self.shape = (channels, 1, bins)
        self.scale, self.bias = nn.Linear(latent, channels * bins), nn.Linear(latent, channels * bins)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, bias = (linear(condition).unflatten(1, self.shape) for linear in (self.scale, self.bias))
        return torch.addcmul(bias, x, scale)


class QueryNet(nn.Module):
    """Magnitudes `[B, N, F]` → latents `[B, Z]`."""

    def __init__(self, system: Lin2021):
        super().__init__()
        channels = system.query_channels
        self.input_norm = _batch_norm(1)
        pairs = zip((1, *channels[:-1]), channels, strict=True)
        self.block = nn.ModuleList(ConvBlock(*pair) for pair in pairs)
        self.pool = nn.AvgPool2d(2)
        bins = system.window_length // 2 // 2 ** len(channels)
        self.latent = nn.Linear(channels[-1] * bins, system.latent_size)

    def forward(self, magnitude: Tensor) -> Tensor:
        frames = magnitude.shape[1] - magnitude.shape[1] % 2 ** len(self.block)
        x = self.input_norm(magnitude[:, None, :frames])
        for block in self.block:
            x = self.pool(block(x))
        return torch.tanh(_at_least_float32(self.latent(_per_frame(x)))).mean(1)


class Encoder(nn.Module):
    """Magnitudes `[B, N, F]` and latents `[R · B, Z]` → modulated maps `[R · B, C, N, F / 2^level]` of all levels."""

    def __init__(self, system: Lin2021):
        super().__init__()
        channels, bins = system.channels, system.window_length // 2
        self.input_norm = _batch_norm(1)
        pairs = zip((1, *channels[:-1]), channels, strict=True)
        self.level = nn.ModuleList(ConvBlock(*pair, layers=2) for pair in pairs)
        self.film = nn.ModuleList(
            FiLM(system.latent_size, size, bins // 2**level) for level, size in enumerate(channels)
        )
        self.pool = nn.AvgPool2d((1, 2))

    def forward(self, magnitude: Tensor, condition: Tensor) -> list[Tensor]:
        x, features = self.input_norm(magnitude[:, None]), []
        for level, (block, film) in enumerate(zip(self.level, self.film, strict=True)):
            x = block(x if level == 0 else self.pool(x))
            if level == 0:
                x = torch.cat([x] * (len(condition) // len(x)))
            x = film(x, condition)
            features.append(x)
        return features


class Transcriber(nn.Module):
    """The bottleneck `[B, C, N, F]` → logits `[B, N, K]`."""

    def __init__(self, system: Lin2021):
        super().__init__()
        channels, inner = system.transcriber_channels, system.channels[-1]
        pairs = zip((inner, *channels[:-1]), channels, strict=True)
        self.block = nn.ModuleList(ConvBlock(*pair, layers=2) for pair in pairs)
        self.pool = nn.AvgPool2d((1, 2))
        bins = system.window_length // 2 // 2 ** (len(system.channels) - 1 + len(channels))
        self.classes = nn.Linear(channels[-1] * bins, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = self.pool(block(x))
        return _at_least_float32(self.classes(_per_frame(x)))


class Decoder(nn.Module):
    """Maps of all levels → magnitudes `[B, N, F]`."""

    def __init__(self, system: Lin2021):
        super().__init__()
        pairs = list(zip(system.channels[:-1], system.channels[1:], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(inner, outer, 3, (1, 2), padding=(1, 0), bias=False) for outer, inner in pairs
        )
        self.norm = nn.ModuleList(_batch_norm(outer) for outer, _ in pairs)
        self.level = nn.ModuleList(ConvBlock(2 * outer, outer) for outer, _ in pairs)
        self.output = nn.Conv2d(system.channels[0], 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for level in reversed(range(len(self.up))):
            x = self.up[level](x)[..., :-1]  # the kernel of size 3 gives one bin too many
            x = functional.relu_(self.norm[level](x))
            x = self.level[level](torch.cat([x, features[level]], 1))
        return _at_least_float32(self.output(x)[:, 0])


class TimbreFilter(nn.Module):
    """A convolution block for the maps of each level."""

    def __init__(self, system: Lin2021):
        super().__init__()
        self.level = nn.ModuleList(ConvBlock(size, size) for size in system.channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [block(x) for block, x in zip(self.level, features, strict=True)]


class PitchExtractor(nn.Module):
    """A codebook per level: it maps probabilities `[B, N, K]` to a scale and a bias per frame, channel and bin."""

    def __init__(self, system: Lin2021):
        super().__init__()
        bins = system.window_length // 2
        sizes = (size * (bins // 2**level) for level, size in enumerate(system.channels))
        self.level = nn.ModuleList(nn.Linear(CLASSES, 2 * size, bias=False) for size in sizes)

    def forward(self, roll: Tensor, timbre: list[Tensor]) -> list[Tensor]:
        entangled = []
        for codebook, x in zip(self.level, timbre, strict=True):
            scale, bias = codebook(roll).unflatten(2, (2, x.shape[1], x.shape[3])).permute(2, 0, 3, 1, 4)
            entangled.append(torch.addcmul(bias, x, scale))
        return entangled


class Twin(LoadableTwin):
    """The complete system: its networks, by the names that they have there, and the losses of its phases.

    Raises:
      NotImplementedError: if the system has a form of the paper that the authors' code lacks, or a joint loss.
    """

    window: Tensor

    def __init__(self, system: Lin2021):
        super().__init__()
        require_defaults(system, FIXED_FIELDS, "the forms of the authors' code")
        self.system = system
        self.query_net, self.encoder = QueryNet(system), Encoder(system)
        if system.transcription:
            self.transcriber = Transcriber(system)
        if system.decoding != "nothing":
            self.decoder = Decoder(system)
        if system.decoding == "disentangled":
            self.timbre_filter, self.pitch_extractor = TimbreFilter(system), PitchExtractor(system)
        self.register_buffer("window", torch.hann_window(system.window_length), persistent=False)

    def losses(self, phase: str, batch: dict[str, Tensor], noise: tuple[Tensor, ...] = ()) -> Tensor:
        """The loss of a phase, `query` or `tasks`, for a batch of `InstrumentPairs`; neither uses noise."""
        return self._query_loss(batch) if phase == "query" else self._task_loss(batch)

    def named(self, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        leaves: Any = traverse_util.flatten_dict(params)
        for path, leaf in leaves.items():
            module = re.sub(r"_(\d+)", r".\1", ".".join(path[:-1]))
            yield f"{module}.{'bias' if path[-1] == 'bias' else 'weight'}", self._in_torch(path, leaf)

    def _in_torch(self, path: tuple[str, ...], leaf: np.ndarray) -> np.ndarray:
        """A leaf in the twin's shape; features that JAX orders (F, C) are ordered (C, F) here."""
        system, is_kernel = self.system, path[-1] == "kernel"
        if leaf.ndim == 4:  # `[h, w, C_in, C_out]`; JAX stores transposed convolutions as their adjoints, so alike
            return np.transpose(leaf, (3, 2, 0, 1))
        if path[0] == "pitch_extractor" or path[1].startswith("film"):  # the outputs are bins and channels
            parts = 2 if path[0] == "pitch_extractor" else 1
            leaf = _channels_first(leaf, system.channels[int(path[1].rpartition("_")[2])], parts)
            return leaf.T if is_kernel else leaf
        if path[1] in ("latent", "classes") and is_kernel:  # the inputs are bins and channels
            channels = system.query_channels if path[0] == "query_net" else system.transcriber_channels
            return _channels_first(leaf.T, channels[-1])
        return leaf

    def _query_loss(self, batch: dict[str, Tensor]) -> Tensor:
        queries = batch[QUERIES].mean(-1)
        latents = self.query_net(self._magnitude(queries.flatten(0, 2))).unflatten(0, queries.shape[:3])
        anchor, same, other = latents[:, :, 0], latents[:, :, 1], latents[:, :, 1].flip(1)
        distance = (anchor - other).square().mean(-1)
        return ((anchor - same).square().mean(-1) + functional.relu(self.system.margin - distance)).mean()

    def _task_loss(self, batch: dict[str, Tensor]) -> Tensor:
        system = self.system
        sources, queries = batch[SOURCES][..., 0], batch[QUERIES][:, :, 0, :, 0]
        condition = self.query_net(self._magnitude(_by_source(queries)))
        features = self.encoder(self._magnitude(sources.sum(1)), condition)
        if not system.transcription:
            return self._separation_loss(features, sources)
        logits = self.transcriber(features[-1])
        classes = _by_source(self._classes(batch[NOTES]))
        transcription = functional.cross_entropy(logits.flatten(0, 1), classes.flatten())
        if system.decoding == "nothing":
            return transcription
        if system.decoding == "disentangled":
            if system.translation_invariance:
                features = self.encoder(self._magnitude(batch[OTHERS][..., 0].sum(1)), condition)
            features = self.pitch_extractor(logits.softmax(-1), self.timbre_filter(features))
        return transcription + self._separation_loss(features, sources)

    def _separation_loss(self, features: list[Tensor], sources: Tensor) -> Tensor:
        return functional.l1_loss(self.decoder(features), self._magnitude(_by_source(sources)))

    def _magnitude(self, signal: Tensor) -> Tensor:
        """Linear magnitudes `[B, N, F]` of signals `[B, T]`, without the Nyquist bin."""
        window, hop = self.system.window_length, self.system.hop_length
        low = (window - hop) // 2
        padded = functional.pad(signal[:, None], (low, window - hop - low), mode="reflect")[:, 0]
        spectrogram = torch.stft(padded, window, hop, window=self.window, center=False, return_complex=True)
        return spectrogram.abs().transpose(1, 2)[..., :-1]

    def _classes(self, notes: Tensor) -> Tensor:
        """Pitch classes `[..., N]` of notes `[..., M, 3]`, as in `qsep_jax.dsp.rolls.frame_classes`."""
        onset, offset, pitch = notes[..., None, :, :].unbind(-1)
        first = torch.floor(onset * self.system.frame_rate + 1e-4)
        last = torch.maximum(torch.floor(offset * self.system.frame_rate + 1e-4), first + 1)
        frame = torch.arange(self.system.frames, device=notes.device)[:, None]
        sounding = (frame >= first) & (frame < last) & (offset > onset)
        latest = (sounding * torch.arange(1, notes.shape[-2] + 1, device=notes.device)).amax(-1)
        pitch = pitch.squeeze(-2).gather(-1, (latest - 1).clamp(min=0))
        classes = (pitch.round().long() - LOWEST_PITCH).clamp(0, CLASSES - 2)
        return torch.where(latest > 0, classes, SILENCE_CLASS)


def jax_noise(system: Lin2021, key: jax.Array, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The noise that the JAX losses draw from `key`: none."""
    return ()


make_optimizer = adam


def _batch_norm(features: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features, eps=1e-5, momentum=0.01)


def _by_source(x: Tensor) -> Tensor:
    """`[B, 2, …]` → `[2 · B, …]`: the first sources of all mixtures, then the second ones."""
    return x.transpose(0, 1).flatten(0, 1)


def _per_frame(x: Tensor) -> Tensor:
    """`[B, C, N, F]` → `[B, N, C · F]`."""
    return x.transpose(1, 2).flatten(2)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _channels_first(x: np.ndarray, channels: int, parts: int = 1) -> np.ndarray:
    """Reorder the last axis from `parts` times (F, C) to `parts` times (C, F)."""
    return x.reshape(*x.shape[:-1], parts, -1, channels).swapaxes(-1, -2).reshape(x.shape)
