"""Lee 2019 in PyTorch: the twin of `qsep_jax.systems.lee2019`.

The twin takes the weights of the JAX system and gives the same loss and gradients for the same waveforms and noise. It
is written as is usual in PyTorch: images `[B, C, N, F]`, the latent tiled and concatenated with the input, and fused
Adam. As in the JAX system, both passes of the U-Net are in one batch.

    twin = Twin(system)                         # system: `Lee2019`
    twin.load(variables["params"])              # parameters of the JAX system, as numpy arrays
    loss = twin.losses("cvae", batch)           # with the noise of JAX: twin.losses("cvae", batch, jax_noise(…))
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.torch_twins.parts import LoadableTwin, adam
from data_pipelines.schema import MIXTURE, TARGET
from qsep_jax.systems.lee2019 import Lee2019

Tree = dict[str, Any]


class QueryNet(nn.Module):
    """Magnitudes `[B, N, F]` → mean and log-variance of the latent, each `[B, Z]`."""

    def __init__(self, system: Lee2019):
        super().__init__()
        inputs = (1, *system.query_channels[:-1])
        pairs = enumerate(zip(inputs, system.query_channels, strict=True))
        self.convs = nn.ModuleList(_conv(*pair, halves_time=layer % 2 == 1, bias=False) for layer, pair in pairs)
        bins = system.window_length // 2 // 2 ** len(system.query_channels)
        self.gru = nn.GRU(system.query_channels[-1] * bins, system.query_hidden, batch_first=True)
        # For the reset and update gates, Flax has one bias and PyTorch has two: the second stays at zero.
        is_new = torch.arange(3 * system.query_hidden) >= 2 * system.query_hidden
        second = self.gru.get_parameter("bias_hh_l0")
        second.register_hook(lambda gradient: gradient * is_new.to(gradient.device))
        self.mean = nn.Linear(system.query_hidden, system.latent_size)
        self.log_variance = nn.Linear(system.query_hidden, system.latent_size)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        x = magnitude[:, None]
        for conv in self.convs:
            x = functional.relu(functional.instance_norm(conv(_pad(x, conv))))
        x = x.permute(0, 2, 1, 3).flatten(2)  # [B, N', C·F'], frequency innermost
        state = self.gru(x)[1][0]
        return self.mean(state).float(), self.log_variance(state).float()


class QueryUNet(nn.Module):
    """Magnitudes `[B, N, F]` and latent `[B, Z]` → mask `[B, N, F]`."""

    def __init__(self, system: Lee2019):
        super().__init__()
        channels, levels, latent = system.channels, len(system.channels), system.latent_size
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.scale, self.bias = nn.ModuleDict(), nn.ModuleDict()
        for level in range(levels):
            inputs = 1 + latent if level == 0 else channels[level - 1]
            plain = level in (0, levels - 1)
            self.down.append(_conv(inputs, channels[level], halves_time=level > 0, bias=plain))
        for level in range(levels):
            inputs = channels[level] * (1 if level == levels - 1 else 2)
            features = 1 if level == 0 else channels[level - 1]
            conditioned = level > 0 or system.mask_adain
            strides = (2 if level else 1, 2)
            self.up.append(nn.ConvTranspose2d(inputs, features, 4, strides, padding=1, bias=not conditioned))
            if conditioned:
                self.scale[str(level)] = nn.Linear(latent, features, bias=False)
                self.bias[str(level)] = nn.Linear(latent, features, bias=False)

    def forward(self, magnitude: Tensor, latent: Tensor) -> Tensor:
        last = len(self.down) - 1
        tiled = latent[:, :, None, None].expand(-1, -1, *magnitude.shape[1:])
        x, skips = torch.cat([magnitude[:, None], tiled], 1), []
        for level, conv in enumerate(self.down):
            x = conv(_pad(x, conv))
            x = functional.leaky_relu(x if level in (0, last) else functional.instance_norm(x), 0.2)
            skips.append(x)
        skips.pop()
        for level in reversed(range(last + 1)):
            x = self.up[level](x)
            if level == 0:
                x = x[:, :, :-1]  # stride 1 with a kernel of size 4 gives one frame too many
            if str(level) in self.scale:
                scale, bias = (layers[str(level)](latent)[:, :, None, None] for layers in (self.scale, self.bias))
                x = functional.instance_norm(x) * scale + bias
            if level:
                x = torch.cat([functional.relu(x), skips.pop()], 1)
        return torch.sigmoid(x[:, 0].float())


class Twin(LoadableTwin):
    """The complete system: both networks and the loss of waveforms."""

    window: Tensor

    def __init__(self, system: Lee2019):
        super().__init__()
        self.system = system
        self.query_net, self.separator = QueryNet(system), QueryUNet(system)
        self.register_buffer("window", torch.hann_window(system.window_length), persistent=False)

    def forward(
        self, mixture: Tensor, target: Tensor, posterior: Tensor | None = None, prior: Tensor | None = None
    ) -> Tensor:
        """The loss of mixture and target `[B, T, C]`; the noise of both latents `[B · C, Z]` is drawn if not passed."""
        system = self.system
        mixture, target = self._magnitude(mixture), self._magnitude(target)
        mean, log_variance = self._encode(target)
        posterior = torch.randn_like(mean) if posterior is None else posterior
        prior = torch.randn_like(mean) if prior is None else prior
        latent = mean + torch.exp(0.5 * log_variance) * posterior
        divergence = -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        if not system.latent_weight:
            reconstruction = functional.l1_loss(self._estimate(mixture, latent), target)
            return system.reconstruction_weight * reconstruction + system.kl_weight * divergence
        estimates = self._estimate(torch.cat([mixture, mixture]), torch.cat([latent, prior]))
        estimate, regressed = estimates.chunk(2)
        reconstruction = functional.l1_loss(estimate, target)
        regression = functional.l1_loss(self._encode(regressed, frozen=system.freeze_query_net)[0], prior)
        return (
            system.reconstruction_weight * reconstruction
            + system.kl_weight * divergence
            + system.latent_weight * regression
        )

    def losses(self, phase: str, batch: dict[str, Tensor], noise: tuple[Tensor, ...] = ()) -> Tensor:
        """The loss of the only phase for a batch `{mixture, target}`; the noise is drawn here if it is not passed."""
        return self(batch[MIXTURE], batch[TARGET], *noise)

    def named(self, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
        """The leaves of a tree of JAX parameters, or of their gradients, with the names and shapes of the twin."""
        for layer in range(len(self.query_net.convs)):
            yield f"query_net.convs.{layer}.weight", _kernel(params["query_net"][f"conv_{layer}"])
        gru = params["query_net"]["gru"]
        hidden = np.zeros(2 * self.system.query_hidden, np.float32)
        yield "query_net.gru.weight_ih_l0", np.concatenate([gru[gate]["kernel"].T for gate in ("ir", "iz", "in")])
        yield "query_net.gru.weight_hh_l0", np.concatenate([gru[gate]["kernel"].T for gate in ("hr", "hz", "hn")])
        yield "query_net.gru.bias_ih_l0", np.concatenate([gru[gate]["bias"] for gate in ("ir", "iz", "in")])
        yield "query_net.gru.bias_hh_l0", np.concatenate([hidden, gru["hn"]["bias"]])
        for head in ("mean", "log_variance"):
            yield f"query_net.{head}.weight", params["query_net"][head]["kernel"].T
            yield f"query_net.{head}.bias", params["query_net"][head]["bias"]
        for layers in ("down", "up"):
            for level in range(len(self.separator.down)):
                layer = params["separator"][f"{layers}_{level}"]
                yield f"separator.{layers}.{level}.weight", _kernel(layer)
                if "bias" in layer:
                    yield f"separator.{layers}.{level}.bias", layer["bias"]
        for level in self.separator.scale:
            for part in ("scale", "bias"):
                yield f"separator.{part}.{level}.weight", params["separator"][f"adain_{level}"][part]["kernel"].T

    def _magnitude(self, audio: Tensor) -> Tensor:
        """Magnitudes `[B · C, N, F]` of audio `[B, T, C]`, without the Nyquist bin."""
        window, hop = self.system.window_length, self.system.hop_length
        signal = audio.transpose(1, 2).flatten(0, 1)
        low = (window - hop) // 2
        padded = functional.pad(signal[:, None], (low, window - hop - low), mode="reflect")[:, 0]
        spectrogram = torch.stft(padded, window, hop, window=self.window, center=False, return_complex=True)
        return spectrogram.abs().transpose(1, 2)[..., :-1]

    def _compress(self, magnitude: Tensor) -> Tensor:
        if self.system.compression == "none":
            return magnitude
        return magnitude.log1p()

    def _encode(self, magnitude: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        if not frozen:
            return self.query_net(self._compress(magnitude))
        weights = {name: weight.detach() for name, weight in self.query_net.named_parameters()}
        return torch.func.functional_call(self.query_net, weights, (self._compress(magnitude),))

    def _estimate(self, magnitude: Tensor, latent: Tensor) -> Tensor:
        return self.separator(self._compress(magnitude), latent) * magnitude


def jax_noise(system: Lee2019, key: jax.Array, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The noise that the JAX loss draws from `key` for posterior and prior, `[B · C, Z]` each."""
    rows = batch[MIXTURE].shape[0] * batch[MIXTURE].shape[-1]
    keys, shape = jax.random.split(key), (rows, system.latent_size)
    posterior, prior = (torch.from_numpy(np.array(jax.random.normal(key, shape))) for key in keys)
    return posterior, prior


make_optimizer = adam


def _conv(inputs: int, features: int, *, halves_time: bool, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, features, 4, (2 if halves_time else 1, 2), padding=1, bias=bias)


def _pad(x: Tensor, conv: nn.Module) -> Tensor:
    """Pad one frame at the end before a kernel of size 4 with stride 1, so that the number of frames stays."""
    return functional.pad(x, (0, 0, 0, 1)) if isinstance(conv, nn.Conv2d) and conv.stride[0] == 1 else x


def _kernel(layer: Tree) -> np.ndarray:
    """`[h, w, C_in, C_out]` → `[C_out, C_in, h, w]`; JAX stores transposed convolutions as their adjoints, so alike."""
    return np.transpose(layer["kernel"], (3, 2, 0, 1))
