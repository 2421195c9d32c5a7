"""One-shot adaptation (Cantisani et al. 2021): a trained model is fine-tuned on one song, from annotations of activity.

The annotations say when each stem is active. The loss is the energy of the estimates of inactive stems, and the
difference of the mixture to the sum of the estimates of active stems. So no reference is needed, and every system whose
estimates are differentiable can be adapted.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import ACTIVE, MIXTURE, UNIT
from qsep_jax.systems.base import RANGER, Aux, Optimizer, Phase, System, Variables
from qsep_jax.systems.bounds import bounded

# Network under `params` that holds the conditions of the stems of a conditioned system, so that they can be trained.
CONDITION = "condition"


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """Settings of the adaptation of a model to a song.

    Attributes:
      trainable: Path prefixes of the adapted parameters, such as `tasnet/decoder`; `condition` stands for the
        conditions of the stems of a query-based system.
      reconstruction: Term of the loss that compares estimates with the mixture. `gated`: the sum of the estimates, each
        where its stem is active (the published code). `each`: every estimate alone, where its stem is active (the
        slide). `mixture`: the sum of all estimates without regard to activity, and no further term (`Lmix` of the
        code).
      weight: Weight λ of the estimates of inactive stems, summed over stems. The code has γ of their mean: γ = 4 λ.
      smoothness: Number s of `√(x² + s²) − s`, which replaces `|x|`, in units of the song's standard deviation; 0 in
        the paper.
      epochs: Number of passes over the song.
      seconds: Length of the chunks of the song, in seconds, each of which makes an update, in order. 0 takes
        `chunk_samples` of the system, as networks of a fixed length need.
      hop: Seconds from one chunk to the next.
      pitch_copies: Number of pitch-shifted copies of each chunk in a pass, besides the chunk itself; 2 in the published
        code. Its earlier name is `shifts`.
      semitones: Largest pitch shift, up or down; shifts are random.
      optimizer: Optimizer of the adapted parameters.
    """

    trainable: tuple[str, ...]
    reconstruction: Literal["gated", "each", "mixture"] = "gated"
    weight: float = 0.25
    smoothness: float = 0.0
    epochs: int = 10
    seconds: float = 10.0
    hop: float = 1.0
    pitch_copies: int = 0
    semitones: int = bounded(12, least=0)
    optimizer: Optimizer = RANGER

    def __post_init__(self):
        if not self.trainable:
            raise ValueError("adaptation.trainable is empty: name the parameters to adapt")
        for name in ("epochs", "hop"):
            if getattr(self, name) <= 0:
                raise ValueError(f"adaptation.{name} must be more than 0, not {getattr(self, name)}")
        for name in ("seconds", "weight", "smoothness", "pitch_copies"):
            if getattr(self, name) < 0:
                raise ValueError(f"adaptation.{name} must be 0 or more, not {getattr(self, name)}")

    def changed(self, rate: float | None = None, **fields: Any) -> "Adaptation":
        """Return a copy with another learning rate and other fields; None leaves a field as it is."""
        changes = {name: value for name, value in fields.items() if value is not None}
        if rate is not None:
            changes["optimizer"] = dataclasses.replace(self.optimizer, learning_rate=rate)
        return dataclasses.replace(self, **changes)


def estimates(system: System, variables: Variables, mixture: Array) -> Array:
    """Separate `[B, T, C]` into `[B, S, T, C]`; the stems of a query-based system are the conditions in `variables`."""
    conditions = variables["params"].get(CONDITION)
    if conditions is None:
        return system.separate(variables, mixture, ())
    stems, batch = jax.tree.leaves(conditions)[0].shape[0], mixture.shape[0]
    condition = jax.tree.map(lambda leaf: jnp.tile(leaf, (batch, *[1] * (leaf.ndim - 1))), conditions)
    outputs = system.separate(variables, jnp.repeat(mixture, stems, axis=0), condition)
    return outputs.reshape(batch, stems, *mixture.shape[1:])


def phase(system: System, adaptation: Adaptation) -> Phase:
    """Return the only phase of an adaptation, on `mixture` `[B, T, C]`, `active` `[B, S, T, 1 or C]` and `unit` `[B]`.

    Losses are divided by `unit`, the standard deviation of the song. The published code normalises the song itself to
    mean 0 and standard deviation 1. Conv-TasNet is invariant to scale, so the two differ in the mean only.
    """

    def loss(variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Return the mean absolute error of the reconstruction plus λ times that of inactive stems (the slide)."""
        unit = batch[UNIT][:, None, None]
        mixture, stems = batch[MIXTURE] / unit, estimates(system, variables, batch[MIXTURE]) / unit[..., None]
        if adaptation.reconstruction == "mixture":
            error = _absolute(mixture - stems.sum(1), adaptation.smoothness).mean()
            return error, Aux({"reconstruction": error})
        active = batch[ACTIVE].astype(jnp.float32)
        gated = active * stems
        if adaptation.reconstruction == "each":
            difference = gated - mixture[:, None]
        else:
            difference = (gated.sum(1) - mixture)[:, None]
        error = _absolute(difference, adaptation.smoothness).mean((0, 2, 3)).sum()
        silent = _absolute((1.0 - active) * stems, adaptation.smoothness).mean((0, 2, 3)).sum()
        return error + adaptation.weight * silent, Aux({"reconstruction": error, "silent": silent})

    return Phase("adaptation", adaptation.trainable, loss, adaptation.optimizer)


def _absolute(x: Array, smoothness: float) -> Array:
    """Return `|x|`, smooth at 0 if `smoothness` is positive."""
    return jnp.sqrt(jnp.square(x) + smoothness**2) - smoothness if smoothness else jnp.abs(x)
