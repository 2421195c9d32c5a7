"""Lin, Kong, Jiang, Xia 2021, "A unified model for zero-shot music source separation, transcription and synthesis".

A query selects one instrument of a mixture. The system transcribes its notes, extracts its timbre from the remaining
features of the encoder, and decodes the source from notes and timbre: MSI. MSI-DIS is trained with the timbre of the
same instruments at other pitches, so that it can synthesize any score. The paper's three baselines are here as well.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.schema import CLASSES, NOTES, OTHERS, QUERIES, SEEN_INSTRUMENTS, SOURCES
from qsep_jax.dsp.rolls import frame_classes
from qsep_jax.dsp.stft import istft, stft
from qsep_jax.losses.contrastive import query_loss
from qsep_jax.losses.reconstruction import l1
from qsep_jax.losses.transcription import frame_cross_entropy
from qsep_jax.models.msi import MSI
from qsep_jax.systems.base import Aux, Batch, BatchSpec, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import LONGEST_WINDOW, MOST_FRAMES, MOST_LEVELS, bounded

STREAM = "pairs"
AMSGRAD = Optimizer("amsgrad", learning_rate=5e-4)


@dataclasses.dataclass(frozen=True)
class Lin2021(System):
    """MSI, MSI-DIS and the baselines. The defaults are those of the authors' code, and MSI.

    | system     | decoding     | transcription | translation_invariance |
    | ---------- | ------------ | ------------- | ---------------------- |
    | AMT-only   | nothing      | yes           | no                     |
    | MSS-only   | skips        | no            | no                     |
    | multi-task | skips        | yes           | no                     |
    | MSI        | disentangled | yes           | no                     |
    | MSI-DIS    | disentangled | yes           | yes                    |

    Channels pass through the network one by one with the same query; a query is mixed down first.

    Attributes:
      window_length: Length of the STFT window in samples.
      fft_length: Length of the transform in samples, which has zeros after the window; 0: that of the window. The paper
        has a window of 1024 and a transform of 2048.
      hop_length: Hop of the STFT in samples.
      frames: Number of STFT frames of a training example and of a chunk: 3 s.
      channels: Channels of the levels of encoder and decoder.
      query_channels: Channels of the blocks of the QueryNet.
      query_layers: Number of convolutions in a block of the QueryNet: 1 (the code) or 2 (the paper).
      latent_size: Size of the latent of a query, Z.
      transcriber_channels: Channels of the blocks of the transcriber.
      decoding: What the decoder takes: `nothing` (there is no decoder), the features of the encoder (`skips`), or notes
        and timbre (`disentangled`).
      transcription: Whether there is a transcriber.
      translation_invariance: Whether the separation loss is replaced by that of translation invariance: the pitch is
        that of the mixture, the timbre that of a second mixture of the same instruments in other pitch shifts, and the
        target is the source in the first mixture.
      second_mixture: Sources that have other pitch shifts in the second mixture: `both` (the code) or only the `target`
        (§3.4).
      pooling: Pooling of the encoder, `average` (the code) or `max` (the paper).
      normalise_timbre: Whether the TimbreFilter has batch normalisation and ReLU (the code) or neither (the paper).
      query_form: Form of the query loss, `squared` (the code) or `norm` (Eq. 6).
      query_clips: Number of query clips of a pair. 4: two of each instrument, and each instrument in turn is the anchor
        (the code). 3: two of the first and one of the second (the paper).
      margin: Margin of the query loss.
      joint: Whether one optimizer minimises the sum of all losses. By default the query loss makes an update of its own
        before the other losses, with an optimizer of its own, as in the code.
      optimizer: Settings of each optimizer.
    """

    cues: ClassVar[tuple[str, ...]] = ("query", "score")

    stems: tuple[str, ...] = SEEN_INSTRUMENTS
    sample_rate: int = 16_000
    window_length: int = bounded(2048, most=LONGEST_WINDOW)
    fft_length: int = bounded(0, least=0, most=LONGEST_WINDOW)
    hop_length: int = 160
    frames: int = bounded(300, most=MOST_FRAMES)
    channels: tuple[int, ...] = bounded((2, 4, 8, 16, 32, 64), longest=MOST_LEVELS)
    query_channels: tuple[int, ...] = bounded((2, 4), longest=MOST_LEVELS)
    query_layers: int = bounded(1, most=MOST_LEVELS)
    latent_size: int = 6
    transcriber_channels: tuple[int, ...] = bounded((128, 256), longest=MOST_LEVELS)
    decoding: Literal["nothing", "skips", "disentangled"] = "disentangled"
    transcription: bool = True
    translation_invariance: bool = False
    second_mixture: Literal["both", "target"] = "both"
    pooling: Literal["average", "max"] = "average"
    normalise_timbre: bool = True
    query_form: Literal["squared", "norm"] = "squared"
    query_clips: Literal[4, 3] = 4
    margin: float = 0.125
    joint: bool = False
    optimizer: Optimizer = AMSGRAD
    compute_dtype: str = "float32"

    def __post_init__(self):
        if self.fft_length and self.fft_length < self.window_length:
            raise ValueError(
                f"fft_length must be 0 or at least window_length = {self.window_length}, not {self.fft_length}"
            )
        bins, halvings = self.bins, len(self.channels) - 1 + len(self.transcriber_channels)
        if bins % 2**halvings or bins % 2 ** len(self.query_channels):
            raise ValueError(
                f"{bins} bins are halved {halvings} times by encoder and transcriber and {len(self.query_channels)} "
                "times by the QueryNet, which must give whole numbers: change channels, window_length or fft_length"
            )
        if self.frames < 2 ** len(self.query_channels):
            raise ValueError(f"the QueryNet needs {2 ** len(self.query_channels)} frames, not {self.frames}")
        if self.decoding == "nothing" and not self.transcription:
            raise ValueError("the system has no task with decoding = nothing and without transcription")
        if self.decoding == "disentangled" and not self.transcription:
            raise ValueError("decoding = disentangled decodes transcribed notes: set transcription")
        if self.translation_invariance and self.decoding != "disentangled":
            raise ValueError(f"translation_invariance needs decoding = disentangled, not {self.decoding}")

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    @property
    def bins(self) -> int:
        """Number of bins that the networks see: those of the transform without that of the Nyquist frequency."""
        return (self.fft_length or self.window_length) // 2

    @property
    def frame_rate(self) -> float:
        """Number of STFT frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def tasks(self) -> tuple[str, ...]:
        tasks = {"separate": self.decoding != "nothing", "transcribe": self.transcription}
        tasks |= dict.fromkeys(("separate_by_score", "synthesize"), self.decoding == "disentangled")
        return tuple(task for task, possible in tasks.items() if possible)

    @property
    def networks(self) -> MSI:
        return MSI(
            self.channels,
            self.query_channels,
            self.query_layers,
            self.latent_size,
            self.transcriber_channels,
            self.decoding,
            self.transcription,
            self.pooling,
            self.normalise_timbre,
            jnp.dtype(self.compute_dtype),
        )

    def init(self, key: Array, spec: BatchSpec) -> Variables:
        def all_networks(networks: MSI, magnitude: Array) -> None:
            networks(magnitude, networks.embed(magnitude, True)[:, None], True)

        magnitude = jnp.zeros((1, self.frames, self.bins))
        return dict(self.networks.init(key, magnitude, method=all_networks))

    def phases(self) -> tuple[Phase, ...]:
        names = ["query_net", "encoder"] + ["transcriber"] * self.transcription
        names += ["decoder"] * (self.decoding != "nothing")
        names += ["timbre_filter", "pitch_extractor"] * (self.decoding == "disentangled")
        if self.joint:
            return (Phase("all", tuple(names), self.joint_loss, self.optimizer, stream=STREAM),)
        return (
            Phase("query", ("query_net",), self.query_loss, self.optimizer, stream=STREAM),
            Phase("tasks", tuple(names), self.task_loss, self.optimizer, stream=STREAM),
        )

    def query_loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the contrastive loss (Eq. 6) of `queries` `[B, 2, 2, T, C]`."""

        def run(networks: MSI) -> Array:
            queries = self._magnitude(batch[QUERIES].mean(-1))
            latents = networks.embed(queries.reshape(-1, *queries.shape[3:]), True)
            return self._contrast(latents.reshape(-1, 2, 2, self.latent_size))

        loss, updates = self._train(variables, run)
        return loss, Aux({}, updates)

    def task_loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the loss of separation or translation invariance plus that of transcription (Eq. 14 to 16).

        The batch is one of `InstrumentPairs`.
        """
        (terms, _), updates = self._train(variables, lambda networks: self._tasks(networks, batch, train=True))
        return sum(terms.values(), jnp.zeros(())), Aux(terms, updates)

    def joint_loss(self, variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the sum of the query loss and the losses of the tasks."""

        def run(networks: MSI) -> dict[str, Array]:
            terms, latents = self._tasks(networks, batch, train=True)
            return {"query": self._contrast(latents), **terms}

        terms, updates = self._train(variables, run)
        return sum(terms.values(), jnp.zeros(())), Aux(terms, updates)

    def validate(self, variables: Variables, batch: Batch, key: Array) -> dict[str, Array]:
        """Return the losses with running statistics; `loss` is the sum of those of the tasks."""

        def run(networks: MSI) -> tuple[dict[str, Array], Array]:
            return self._tasks(networks, batch[STREAM], train=False)

        outputs: Any = self.networks.apply(variables, method=run)
        terms, latents = outputs
        return {"loss": sum(terms.values(), jnp.zeros(())), **terms, "query": self._contrast(latents)}

    def _contrast(self, latents: Array) -> Array:
        """Return the query loss of latents `[B, 2, 2, Z]`, by instrument and clip.

        With four clips, each anchor has a negative of its own: the second clip of the other instrument, as in the code.
        """
        anchor, same = latents[:, :, 0], latents[:, :, 1]
        other = latents[:, ::-1, 1]
        if self.query_clips == 3:
            anchor, same, other = latents[:, :1, 0], latents[:, :1, 1], latents[:, 1:, 0]
        return query_loss(anchor, same, other, self.margin, self.query_form)

    def _tasks(self, networks: MSI, batch: dict[str, Array], *, train: bool) -> tuple[dict[str, Array], Array]:
        """Return the losses of the tasks by name, and the latents of the queries `[B, 2, 2, Z]`."""
        sources, queries = _first_channel(batch[SOURCES]), _first_channel(batch[QUERIES])  # [B, 2, T], [B, 2, 2, T]
        clips = queries if self.joint or not train else queries[:, :, :1]
        magnitudes = self._magnitude(clips.reshape(-1, clips.shape[-1]))
        latents = networks.embed(magnitudes, train).reshape(*clips.shape[:3], -1)
        mixture, condition = self._magnitude(sources.sum(1)), latents[:, :, 0]
        timbre = None
        if self.translation_invariance and train:
            others = _first_channel(batch[OTHERS])
            if self.second_mixture == "both":
                timbre = self._magnitude(others.sum(1))
            else:  # each source shifted beside the other one unshifted: two mixtures with one query each
                shifted = self._magnitude(others + sources[:, ::-1])
                timbre = shifted.reshape(-1, *shifted.shape[2:])
                mixture = jnp.repeat(mixture, 2, axis=0)
                condition = condition.reshape(-1, 1, condition.shape[-1])
        estimates, logits = networks(mixture, condition, train, timbre=timbre)
        terms = {}
        if estimates is not None:
            targets = self._magnitude(sources)
            name = "translation" if timbre is not None else "separation"
            terms[name] = l1(estimates, targets.reshape(estimates.shape))
        if logits is not None:
            classes = frame_classes(batch[NOTES], self.frames, self.frame_rate)
            terms["transcription"] = frame_cross_entropy(logits, classes.reshape(logits.shape[:-1]))
        return terms, latents

    def _train(self, variables: Variables, run: Any) -> tuple[Any, dict[str, Any]]:
        """Return what `run` returns of the networks, and their running statistics after it."""
        result: Any = self.networks.apply(variables, method=run, mutable=["batch_stats"])
        value, changed = result
        return value, {"batch_stats": changed["batch_stats"]}

    def preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        """Return the mixture, its first source, and the estimate of that source."""
        sources = batch[STREAM][SOURCES]
        mixture = sources.sum(1)
        signals = {"mixture": mixture, "target": sources[:, 0]}
        if self.decoding != "nothing":
            condition = self.condition(variables, {"query": batch[STREAM][QUERIES][:, 0, 0]})
            signals["estimate"] = self.separate(variables, mixture, condition)[:, 0]
        return signals

    def condition(self, variables: Variables, cues: dict[str, Array]) -> Array:
        """Return the latent of `query` `[B, query_samples, C]`: `[B, Z]`."""
        magnitude = self._magnitude(cues["query"].mean(axis=-1))
        latent: Any = self.networks.apply(variables, magnitude, False, method=MSI.embed)
        return latent

    def separate(self, variables: Variables, mixture: Array, condition: Array) -> Array:
        """Decode the magnitudes of the source and take the mixture's phase: `[B, T, C]` → `[B, 1, T, C]`.

        Raises:
          ValueError: if the system has no decoder.
        """
        self._need("separate")
        return self._decoded(variables, mixture, condition, None)

    def separate_by_score(self, variables: Variables, mixture: Array, condition: Array, roll: Array) -> Array:
        """Separate with the notes of `roll`, one-hot `[B, N, K]`, instead of transcribed ones: MSI-S."""
        self._need("separate_by_score")
        return self._decoded(variables, mixture, condition, roll)

    def transcribe(self, variables: Variables, mixture: Array, condition: Array) -> Array:
        """Return probabilities of the classes `[B, N, K]`, silence last, of the source in `[B, T, C]`, mixed down."""
        self._need("transcribe")
        logits = self._infer(variables, self._magnitude(mixture.mean(-1)), condition, None)[1]
        return jax.nn.softmax(logits)

    def synthesize(self, variables: Variables, mixture: Array, condition: Array, roll: Array) -> Array:
        """Return magnitudes `[B, N, F]` of the source in `[B, T, C]` playing `roll` `[B, N, K]`.

        F is `bins + 1`, with the Nyquist bin.
        """
        self._need("synthesize")
        estimate = self._infer(variables, self._magnitude(mixture.mean(-1)), condition, roll)[0]
        return jnp.pad(jnp.maximum(estimate, 0.0), ((0, 0), (0, 0), (0, 1)))

    def _need(self, task: str) -> None:
        if task not in self.tasks:
            raise ValueError(
                f"this model cannot {task.replace('_', ' ')} (decoding = {self.decoding}, transcription = "
                f"{self.transcription}): it can {', '.join(self.tasks).replace('_', ' ')}"
            )

    def _infer(self, variables: Variables, magnitude: Array, condition: Array, roll: Array | None) -> Any:
        """Return estimate and logits of the networks, either of which may be None."""
        return self.networks.apply(variables, magnitude, condition[:, None], False, roll=roll)

    def _decoded(self, variables: Variables, mixture: Array, condition: Array, roll: Array | None) -> Array:
        """Return the source `[B, 1, T, C]` with the notes of `roll`, or with transcribed ones."""
        batch, length, channels = mixture.shape
        spectrogram = self._stft(mixture.swapaxes(1, 2).reshape(-1, length))
        magnitude, latent = jnp.abs(spectrogram), jnp.repeat(condition, channels, axis=0)
        roll = None if roll is None else jnp.repeat(roll, channels, axis=0)
        estimate = self._infer(variables, magnitude[..., :-1], latent, roll)[0]
        phase = spectrogram / jnp.maximum(magnitude, 1e-12)  # zero where the mixture is silent
        estimate = jnp.pad(estimate, ((0, 0), (0, 0), (0, 1)))  # the Nyquist bin, which is not decoded
        signal = istft(estimate * phase, self.window_length, self.hop_length, self.fft_length)
        return signal.reshape(batch, channels, length).swapaxes(1, 2)[:, None]

    def _magnitude(self, signal: Array) -> Array:
        """`[..., T]` → linear magnitudes `[..., N, F]` without the Nyquist bin."""
        return jnp.abs(self._stft(signal))[..., :-1]

    def _stft(self, signal: Array) -> Array:
        return stft(signal, self.window_length, self.hop_length, self.fft_length)

    def noise(self, rng: np.random.Generator, batch_size: int) -> Batch:
        shape = (batch_size, 2, self.chunk_samples, 1)
        audio = {name: 0.1 * rng.standard_normal(shape, np.float32) for name in (SOURCES, OTHERS)}
        audio[QUERIES] = 0.1 * rng.standard_normal((*shape[:2], 2, *shape[2:]), np.float32)
        onsets = np.linspace(0.0, 0.8 * self.frames / self.frame_rate, 4, dtype=np.float32)
        rows = np.broadcast_to(np.stack([onsets, onsets + onsets[1], 0 * onsets], axis=-1), (batch_size, 2, 4, 3))
        pitches = rng.integers(21, 21 + CLASSES - 1, (batch_size, 2, 4))
        return {STREAM: {**audio, NOTES: np.concatenate([rows[..., :2], pitches[..., None]], -1).astype(np.float32)}}


def _first_channel(audio: Array) -> Array:
    """Drop the channel axis of mono examples: `[..., T, 1]` → `[..., T]`."""
    return audio[..., 0]
