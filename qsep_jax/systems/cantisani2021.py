"""Cantisani et al. 2021 (UGOSA), "User-guided one-shot deep model adaptation for music source separation".

A Conv-TasNet is trained on songs with known stems (Défossez et al. 2019). Then it is adapted to one song, for which a
user has annotated when each stem is active: see `qsep_jax.systems.one_shot` and `qsep_jax.inference.adaptation`.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.schema import MIXTURE, SOURCES
from qsep_jax.dsp.per_device import apply_per_device
from qsep_jax.models import tasnet_weights, torch_weights
from qsep_jax.models.conv_tasnet import ConvTasNet
from qsep_jax.nn.tcn import StoredActivations
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import MOST_LEVELS, bounded
from qsep_jax.systems.one_shot import Adaptation

# Smallest standard deviation by which an example is normalised (-60 dB re full scale).
QUIET = 1e-3
# Strategy P-L3:D trains the last repeat, the masks and the decoder.
PUBLISHED = Adaptation(("tasnet/separator/repeat_4", "tasnet/separator/mask", "tasnet/decoder"))
SPLITS = ("l1", "l2", "l3", "l4", "l5")


@dataclasses.dataclass(frozen=True)
class Cantisani2021(System):
    """Conv-TasNet for music. The defaults are those of the published network, which has 10,977,872 parameters.

    Attributes:
      stems: Names of the outputs, in the order of the published weights.
      channels: Number of audio channels, which the network takes together.
      samples: T of a training example; 1.8 s in the published code.
      chunk: T of a chunk of separation; 10 s in the published code.
      filters: Number of filters of the encoder, N in the paper of Conv-TasNet.
      window: Length of the filters in samples, L; the hop is L / 2.
      bottleneck: Channels between the blocks, B.
      hidden: Channels within a block, H.
      kernel: Length of the dilated convolutions, P.
      blocks: Number of blocks of a repeat, X.
      repeats: Number of repeats, R.
      keep: What is stored of each block for the backward pass: `all`, `hidden` (the rest is recomputed) or `none`.
      optimizer: Optimizer of the training before adaptation.
      adaptation: Settings of the adaptation to a song, which the options of `adapt` override.
    """

    cues: ClassVar[tuple[str, ...]] = ()

    stems: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate: int = 44_100
    channels: int = 2
    samples: int = 80_000
    chunk: int = 441_000
    filters: int = 256
    window: int = 20
    bottleneck: int = 256
    hidden: int = 512
    kernel: int = 3
    blocks: int = bounded(10, most=MOST_LEVELS)
    repeats: int = bounded(4, most=MOST_LEVELS)
    keep: StoredActivations = "hidden"
    optimizer: Optimizer = Optimizer(learning_rate=3e-4)
    adaptation: Adaptation = PUBLISHED
    compute_dtype: str = "float32"

    def __post_init__(self):
        if self.window % 2 or self.kernel % 2 == 0:
            raise ValueError(f"window must be even and kernel odd, not {self.window} and {self.kernel}")
        if min(self.samples, self.chunk) < self.window:
            raise ValueError(f"samples {self.samples} and chunk {self.chunk} must hold a window of {self.window}")

    @property
    def input_channels(self) -> int:
        return self.channels

    @property
    def chunk_samples(self) -> int:
        return self.chunk

    @property
    def example_samples(self) -> int:
        return self.samples

    @property
    def network(self) -> ConvTasNet:
        shape = (self.filters, self.window, self.bottleneck, self.hidden, self.kernel, self.blocks, self.repeats)
        return ConvTasNet(len(self.stems), *shape, self.keep, jnp.dtype(self.compute_dtype))

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        return {"params": {"tasnet": self.network.init(key, jnp.zeros((1, self.window, self.channels)))["params"]}}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("separation", ("tasnet",), self.loss, self.optimizer),)

    def loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the mean absolute error of `sources` `[B, S, T, C]` in `mixture` `[B, T, C]`.

        Errors are divided by the standard deviation of the mixture.
        """
        estimates, mono = self._estimates(variables, batch[MIXTURE]), batch[MIXTURE].mean(-1)
        # Departs from the paper: the standard deviation is that of the example; in the published code, of the song.
        unit = jnp.maximum(mono.std(-1), QUIET)[:, None, None, None]
        errors = jnp.abs((estimates - batch[SOURCES]) / unit).mean((0, 2, 3))
        return errors.mean(), Aux({f"mae_{stem}": errors[number] for number, stem in enumerate(self.stems)})

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        loss, aux = self.loss(variables, batch["separation"], key)
        return {"loss": loss, **aux.metrics}

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        mixture = batch["separation"][MIXTURE]
        estimates = self._estimates(variables, mixture)
        return {"mixture": mixture, **{stem: estimates[:, number] for number, stem in enumerate(self.stems)}}

    def condition(self, variables: Variables, cues: dict[str, Array]) -> tuple[()]:
        return ()

    def separate(self, variables: Variables, mixture: Array, condition: tuple[()]) -> Array:
        return self._estimates(variables, mixture)

    def adaptation_presets(self) -> dict[str, tuple[str, ...]]:
        """Return the parameters that each strategy of the paper trains: from a layer "to the decoder" (`:D`).

        `l1`, `l2` and `l3` train the last three, two and one repeats and all layers after them; `l4` trains the last
        matrix of the last block, the matrix of the masks and the decoder; `l5` trains the decoder only. The cut of `l4`
        is a guess: the slides give only the number of parameters, 0.4 million, which the whole last depthwise separable
        convolution fits as well. `l1-frozen` to `l4-frozen` leave the decoder as it is, as the published code does by
        default (`l3-frozen`).

        Raises:
          ValueError: if there are fewer than three repeats.
        """
        if self.repeats < 3:
            raise ValueError(f"the strategies of the paper train up to three repeats; the network has {self.repeats}")
        end = ("tasnet/separator/mask", "tasnet/decoder")
        starts = {
            f"l{4 - last}": tuple(f"tasnet/separator/repeat_{self.repeats - back}" for back in reversed(range(last)))
            for last in (3, 2, 1)
        }
        starts["l4"] = (f"tasnet/separator/repeat_{self.repeats}/block_{self.blocks}/contract",)
        presets = {name: (*prefixes, *end) for name, prefixes in starts.items()} | {"l5": end[1:]}
        return presets | {f"{name}-frozen": (*prefixes, end[0]) for name, prefixes in starts.items()}

    def from_file(self, network: str, path: Path) -> Variables:
        """Return the weights of the published PyTorch network of demucs, version 1, or of one with other sizes."""
        if network != "tasnet":
            return super().from_file(network, path)
        return {
            "params": tasnet_weights.from_published(torch_weights.read(path), self.network, self.channels, str(path))
        }

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        shape = (batch_size, len(self.stems), self.samples, self.channels)
        sources = 0.1 * rng.standard_normal(shape, np.float32)
        return {"separation": {MIXTURE: sources.sum(1), SOURCES: sources}}

    def _estimates(self, variables: Variables, mixture: Array) -> Array:
        """Separate mixtures of any length: `[B, T, C]` → `[B, S, T, C]`."""
        return apply_per_device(self.network.apply, {"params": variables["params"]["tasnet"]}, mixture)
