"""One-shot adaptation (Cantisani et al. 2021): a trained model learns one song from when each stem sounds.

Where a stem rests, what is estimated of it is wrong; where the stems that sound do not add up to the mixture, so is
that. No stem needs to be known, and any system whose estimates can be differentiated can be adapted.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import ACTIVE, MIXTURE, UNIT
from qsep_jax.systems.base import RANGER, Aux, Optimizer, Phase, System, Variables

# Under `params`: the conditions of the stems of a system that is told what to separate, so that they can be trained.
CONDITION = "condition"


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How a model is adapted to a song.

    Attributes:
      trainable: prefixes of what is trained, such as `tasnet/decoder`; `condition` is what a system that is asked by
        example is asked with, one for each stem.
      reconstruction: what must add up to the mixture: `gated`, the estimates where their stems sound, summed (the
        published code); `each`, every such estimate by itself (as the slide has it); `mixture`, the sum of all
        estimates, with no regard to what sounds, and nothing else (`Lmix` of the code).
      weight: λ of the estimates where their stems rest, summed over stems. The code's γ is of their mean: γ = 4 λ.
      smoothness: s of `√(x² + s²) − s` in place of `|x|`, in units of the song's loudness; 0 is the paper's.
      epochs: passes over the song.
      seconds, hop: of the chunks of the song that a step takes, in order, and from one to the next. With 0 seconds,
        chunks are as long as those that the system separates, as they must be for networks of one length.
      shifts: copies of each chunk, with the pitch shifted by a random number of semitones up to `semitones` either way,
        that a pass has besides the chunk itself. The published code has 2.
    """

    trainable: tuple[str, ...]
    reconstruction: Literal["gated", "each", "mixture"] = "gated"
    weight: float = 0.25
    smoothness: float = 0.0
    epochs: int = 10
    seconds: float = 10.0
    hop: float = 1.0
    shifts: int = 0
    semitones: int = 12
    optimizer: Optimizer = RANGER

    def __post_init__(self):
        if not self.trainable:
            raise ValueError("adaptation.trainable is empty: nothing would be adapted")
        for name in ("epochs", "hop"):
            if getattr(self, name) <= 0:
                raise ValueError(f"adaptation.{name} must be more than 0, not {getattr(self, name)}")
        for name in ("seconds", "weight", "smoothness", "shifts"):
            if getattr(self, name) < 0:
                raise ValueError(f"adaptation.{name} must be 0 or more, not {getattr(self, name)}")

    def changed(self, rate: float | None = None, **fields: Any) -> "Adaptation":
        """With another learning rate and other fields, as far as they are not None."""
        given = {name: value for name, value in fields.items() if value is not None}
        if rate is not None:
            given["optimizer"] = dataclasses.replace(self.optimizer, learning_rate=rate)
        return dataclasses.replace(self, **given)


def estimates(system: System, variables: Variables, mixture: Array) -> Array:
    """`[B, T, C]` → `[B, S, T, C]`; by a system that is told what to separate, a stem for each of its conditions."""
    told = variables["params"].get(CONDITION)
    if told is None:
        return system.separate(variables, mixture, ())
    stems, batch = jax.tree.leaves(told)[0].shape[0], mixture.shape[0]
    condition = jax.tree.map(lambda leaf: jnp.tile(leaf, (batch, *[1] * (leaf.ndim - 1))), told)
    found = system.separate(variables, jnp.repeat(mixture, stems, axis=0), condition)
    return found.reshape(batch, stems, *mixture.shape[1:])


def phase(system: System, adaptation: Adaptation) -> Phase:
    """The only phase of an adaptation, on `mixture` `[B, T, C]`, `active` `[B, S, T, 1 or C]` and `unit` `[B]`.

    Losses are in units of the song's loudness. Published, the song itself is brought to mean 0 and deviation 1; as
    Conv-TasNet does not mind the loudness, that comes to the same, but for the mean.
    """

    def loss(variables: Variables, batch: dict[str, Array], key: Array) -> tuple[Array, Aux]:
        """Reconstruction and energy of silent stems (the slide's formula), over samples and channels."""
        unit = batch[UNIT][:, None, None]
        mixture, found = batch[MIXTURE] / unit, estimates(system, variables, batch[MIXTURE]) / unit[..., None]
        if adaptation.reconstruction == "mixture":
            error = _absolute(mixture - found.sum(1), adaptation.smoothness).mean()
            return error, Aux({"reconstruction": error})
        active = batch[ACTIVE].astype(jnp.float32)
        sounding = active * found
        if adaptation.reconstruction == "each":
            difference = sounding - mixture[:, None]
        else:
            difference = (sounding.sum(1) - mixture)[:, None]
        error = _absolute(difference, adaptation.smoothness).mean((0, 2, 3)).sum()
        silent = _absolute((1.0 - active) * found, adaptation.smoothness).mean((0, 2, 3)).sum()
        return error + adaptation.weight * silent, Aux({"reconstruction": error, "silent": silent})

    return Phase("adaptation", adaptation.trainable, loss, adaptation.optimizer)


def _absolute(x: Array, smoothness: float) -> Array:
    return jnp.sqrt(jnp.square(x) + smoothness**2) - smoothness if smoothness else jnp.abs(x)
