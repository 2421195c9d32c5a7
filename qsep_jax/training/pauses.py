"""Pauses between steps for validation, previews and checkpoints, at the intervals of the settings."""

import dataclasses
import warnings

import jax
import numpy as np

from data_pipelines.pipeline import Pipeline
from qsep_jax.systems.base import Batch, System
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.compiled import Compiled
from qsep_jax.training.settings import Train
from qsep_jax.training.state import TrainState
from qsep_jax.training.writer import Writer


@dataclasses.dataclass(frozen=True)
class Pauses:
    """The pauses of a run.

    Attributes:
      system: System that is trained.
      compiled: Compiled functions of the run.
      train: Settings of the run.
      validation: Batches for validation and previews; None disables both.
      checkpoints: Checkpoints of the run.
      writer: Writer of the metrics; None in all processes except the first.
    """

    system: System
    compiled: Compiled
    train: Train
    validation: Pipeline | None
    checkpoints: Checkpoints
    writer: Writer | None

    def at(self, step: int, state: TrainState) -> TrainState:
        """Validate, preview and save, as far as each is due at this step; return the state afterwards."""
        loss, stage = None, 0.0
        if self.validation and self._due(step, self.train.validate_every):
            means = self._validate(state, self.validation)
            loss, stage = means["loss"], float(jax.device_get(self.compiled.stage(state.variables)))
            # Only at multiples of `validate_every`, so that an extended run observes the same losses as an
            # uninterrupted run.
            if self.compiled.uses_validation_loss and step % self.train.validate_every == 0:
                state = self.compiled.observe(state, loss)
            if self.writer:
                self.writer.scalars(step, {f"validation/{name}": value for name, value in means.items()})
                # Not after the first validation, since training may have only begun; Python shows equal warnings once.
                if step > self.train.validate_every:
                    for message in self.system.warnings(means):
                        warnings.warn(message, stacklevel=2)
        if self.validation and self._due(step, self.train.summary_every):
            self._preview(step, state, self.validation.batch(0))
        if self._due(step, self.train.save_every):
            self.checkpoints.save(step, state, loss, stage)
        return state

    def save_early(self, step: int, state: TrainState) -> None:
        """Save a run that is requested to end, unless it was already saved at this step."""
        if step % self.train.save_every:
            self.checkpoints.save(step, state, None)

    def out_of_patience(self, step: int) -> bool:
        """Return whether the last `train.patience` validations did not improve on the best loss before them."""
        if not self.train.patience or not step or step % self.train.validate_every:
            return False
        return self.checkpoints.steps_without_improvement() >= self.train.patience * self.train.validate_every

    def _due(self, step: int, every: int) -> bool:
        return bool(every) and (step == self.train.steps or step % every == 0)

    def _validate(self, state: TrainState, validation: Pipeline) -> dict[str, float]:
        """Return metrics averaged over the first `train.validation_batches` batches, which are always the same."""
        metrics = []
        for number in range(self.train.validation_batches):
            (batch,) = self.compiled.place([validation.batch(number)])
            metrics.append(self.compiled.validate(state.variables, state.ema, batch, self.compiled.key))
        fetched = jax.device_get(metrics)
        return {name: float(np.mean([values[name] for values in fetched])) for name in fetched[0]}

    def _preview(self, step: int, state: TrainState, batch: Batch) -> None:
        (placed,) = self.compiled.place([dict(batch)])
        sounds = self.compiled.preview(state.variables, state.ema, placed)
        if self.writer:
            local = jax.device_get({name: audio.addressable_data(0) for name, audio in sounds.items()})
            for name, audio in local.items():
                self.writer.sound(step, f"preview/{name}", audio[0], self.system.sample_rate)
