"""Stoller 2018 in PyTorch: the twin of `qsep_jax.systems.stoller2018`.

The twin takes the weights of the JAX system and gives the same losses and gradients for the same batches. It is written
as is usual in PyTorch: images `[B, C, N, F]`, a module for each critic, a gradient of a gradient for the penalty, and
fused Adam.

    twin = Twin(system)                         # system: `Stoller2018`
    twin.load(variables["params"])              # parameters of the JAX system, as numpy arrays
    loss = twin.losses("critics", batch)        # batch: {stream: …}, tensors
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from flax import traverse_util
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.torch_twins.parts import LoadableTwin, adam
from data_pipelines.schema import MIXTURE, SOURCES, TARGET
from qsep_jax.losses.adversarial import TINY
from qsep_jax.systems.stoller2018 import CRITIC_MIXTURES, MIXTURES, PAIRED, Stoller2018

Tree = dict[str, Any]


class Separator(nn.Module):
    """Log magnitudes `[B, N, F]` → log magnitudes of the sources `[B, S, N', F']`, without padding."""

    def __init__(self, system: Stoller2018):
        super().__init__()
        channels = system.channels
        outer = list(zip((1, *channels[:-1]), channels, strict=True))
        inner = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Conv2d(*pair, 3) for pair in outer)
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, features, 2, 2) for features, below in inner)
        self.after = nn.ModuleList(nn.Conv2d(2 * features, features, 3) for features, _ in inner)
        self.sources = nn.Conv2d(1 + channels[0], len(system.stems), 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [x[:, None]]
        for level, conv in enumerate(self.down):
            x = functional.max_pool2d(skips[-1], 2) if level else skips[-1]
            skips.append(functional.relu_(conv(x)))
        x = skips.pop()
        for level in reversed(range(len(self.up))):
            x = functional.relu_(self.up[level](x))
            x = functional.relu_(self.after[level](_concatenated(skips.pop(), x)))
        return functional.relu_(_at_least_float32(self.sources(_concatenated(skips.pop(), x))))


class Critic(nn.Module):
    """Log magnitudes `[B, N, F]` → scores `[B]`."""

    def __init__(self, system: Stoller2018):
        super().__init__()
        self.pad, self.down, critic = nn.ModuleList(), nn.ModuleList(), system.critic
        height, width, inputs, features = system.frames, system.bins, 1, critic.channels
        while max(height, width) > critic.least:
            rows, columns = height > critic.least, width > critic.least  # whether each is halved
            window, strides = (4 if rows else 2, 4 if columns else 2), (2 if rows else 1, 2 if columns else 1)
            # A kernel of size 2 with stride 1 needs one more pixel at the end to keep the number of pixels.
            self.pad.append(nn.Identity() if rows and columns else nn.ZeroPad2d((0, 1 - columns, 0, 1 - rows)))
            self.down.append(nn.Conv2d(inputs, features, window, strides, (int(rows), int(columns))))
            height, width, inputs = height // strides[0], width // strides[1], features
            features *= 2 if min(height, width) > critic.least else 1
        self.hidden = nn.Linear(inputs * height * width, critic.hidden)
        self.score = nn.Linear(critic.hidden, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        for pad, conv in zip(self.pad, self.down, strict=True):
            x = functional.leaky_relu(conv(pad(x)), 0.2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # channels innermost
        return _at_least_float32(self.score(functional.leaky_relu(self.hidden(x), 0.2))[:, 0])


class Twin(LoadableTwin):
    """The complete system: its separator, its critics, and the losses of its phases."""

    window: Tensor

    def __init__(self, system: Stoller2018):
        super().__init__()
        self.system, self.separator = system, Separator(system)
        self.critics = nn.ModuleList(Critic(system) for _ in system.critics)
        self.register_buffer("window", torch.hann_window(system.window_length), persistent=False)

    def losses(self, phase: str, batch: dict[str, Tree], noise: tuple[Tensor, ...] = ()) -> Tensor:
        """The loss of a phase, `critics` or `separator`; `noise` may have the points `[B]` of the gradient penalty."""
        self.critics.requires_grad_(phase == "critics")  # in the other phase, gradients only pass through them
        return self._critic_loss(batch, *noise) if phase == "critics" else self._separator_loss(batch)

    def named(self, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        leaves: Any = traverse_util.flatten_dict(params)
        for path, leaf in leaves.items():
            network, layer, kind = path
            module = re.sub(r"_(\d+)", r".\1", layer)
            name = f"{module}.{'bias' if kind == 'bias' else 'weight'}"
            if network == "critics":
                for index, critic_leaf in enumerate(leaf):
                    yield f"critics.{index}.{name}", _in_torch(critic_leaf)
            else:
                pixelwise = layer == "sources" and kind == "kernel"
                yield f"{network}.{name}", _in_torch(leaf[None, None] if pixelwise else leaf)

    def _critic_loss(self, batch: dict[str, Tree], noise: Tensor | None = None) -> Tensor:
        system = self.system
        with torch.no_grad():
            separated = self._critic_inputs(
                self.separator(self._pad_bins(self._log_magnitude(batch[CRITIC_MIXTURES][MIXTURE])))
            )
            real = [self._real_example(batch[stem][TARGET]) for stem in system.critics]
            points = torch.rand_like(separated[0][:, 0, 0]) if noise is None else noise
        losses = []
        for critic, true, false in zip(self.critics, real, separated, strict=True):
            true_scores, false_scores = critic(torch.cat([true, false])).chunk(2)
            between = torch.lerp(true, false, points[:, None, None]).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            excess = (gradient.square().sum((1, 2)) + TINY).sqrt() - 1
            excess = functional.relu(excess) if system.penalty_sides == "one" else excess
            losses.append(system.penalty_weight * excess.square().mean() - (true_scores.mean() - false_scores.mean()))
        return torch.stack(losses).sum()

    def _separator_loss(self, batch: dict[str, Tree]) -> Tensor:
        system, paired = self.system, batch[PAIRED]
        targets = self._centre(self._log_magnitude(paired[SOURCES].flatten(0, 1))).unflatten(0, (-1, len(system.stems)))
        estimates = self.separator(self._pad_bins(self._log_magnitude(paired[MIXTURE])))
        supervised = (estimates - targets).square().mean((0, 2, 3)).sum()
        if not system.critics:
            return supervised
        mixture = self._log_magnitude(batch[MIXTURES][MIXTURE])
        estimates = self.separator(self._pad_bins(mixture))
        separated = self._critic_inputs(estimates)
        critic_scores = sum(critic(x).mean() for critic, x in zip(self.critics, separated, strict=True))
        additivity = (self._centre(mixture).expm1() - estimates.expm1().sum(1)).square().mean()
        return supervised - system.adversarial_weight * critic_scores + system.additivity_weight * additivity

    def _log_magnitude(self, audio: Tensor) -> Tensor:
        """Log magnitudes `[B, N, F]` of audio `[B, T, 1]`."""
        window, hop = self.system.window_length, self.system.hop_length
        low = (window - hop) // 2
        padded = functional.pad(audio[..., 0], (low, window - hop - low), mode="reflect")
        spectrogram = torch.stft(padded, window, hop, window=self.window, center=False, return_complex=True)
        return spectrogram.abs().log1p().transpose(1, 2)

    def _pad_bins(self, log_magnitude: Tensor) -> Tensor:
        frequency = self.system.frequency
        low = frequency.context
        return functional.pad(log_magnitude, (low, frequency.inputs - low - log_magnitude.shape[-1]))

    def _centre(self, log_magnitude: Tensor) -> Tensor:
        time = self.system.time
        middle = log_magnitude[:, time.context : time.context + time.outputs]
        return functional.pad(middle, (0, self.system.frequency.outputs - log_magnitude.shape[-1]))

    def _critic_inputs(self, estimates: Tensor) -> list[Tensor]:
        """The part of estimates `[B, S, N', F']` that each critic scores, `[B, N, F]`."""
        system = self.system
        first = (system.time.outputs - system.frames) // 2
        middle = estimates[:, :, first : first + system.frames, 1 : system.bins + 1]
        return [middle[:, system.stems.index(stem)] for stem in system.critics]

    def _real_example(self, audio: Tensor) -> Tensor:
        """Log magnitudes `[B, N, F]` of the middle of audio `[B, T, 1]`, cut from one more frame on both sides."""
        system = self.system
        first = (system.time.inputs - system.frames) // 2 - 1
        audio = audio[:, first * system.hop_length : (first + system.frames + 2) * system.hop_length]
        return self._log_magnitude(audio)[:, 1:-1, 1:]


def exposed_params(params: Tree) -> Tree:
    """Freshly initialised weights, changed so that every term of the losses has an effect.

    A fresh separator returns mostly zeros, which have no gradient. A critic without biases whose input is zero is at
    the kinks of its activations. And fresh critics are so flat that the penalty is zero.
    """
    rng = np.random.default_rng(0)

    def changed(path: tuple[str, ...], leaf: Any) -> Any:
        if path[-1] == "bias":
            return leaf + 0.3 * rng.standard_normal(leaf.shape, np.float32) + (path[-2] == "sources")
        return leaf * 100 if path[-2] == "score" else leaf

    leaves: Any = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({path: changed(path, leaf) for path, leaf in leaves.items()})


def jax_noise(system: Stoller2018, key: jax.Array, batch: dict[str, Tree]) -> tuple[Tensor, ...]:
    """The noise that the JAX loss draws from `key`: for the critics, points `[B]` between real and separated."""
    if CRITIC_MIXTURES not in batch:
        return ()
    points = jax.random.uniform(key, (len(batch[CRITIC_MIXTURES][MIXTURE]),))
    return (torch.from_numpy(np.array(points)),)


make_optimizer = adam


def _concatenated(skip: Tensor, x: Tensor) -> Tensor:
    """Concatenate the middle of the skip with `x`, along the channels."""
    rows, columns = ((skip.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
    return torch.cat([skip[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]], x], 1)


def _in_torch(leaf: np.ndarray) -> np.ndarray:
    """`[h, w, C_in, C_out]` → `[C_out, C_in, h, w]`; JAX stores transposed convolutions as their adjoints, so alike."""
    return np.transpose(leaf, (3, 2, 0, 1)) if leaf.ndim == 4 else leaf.T


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
