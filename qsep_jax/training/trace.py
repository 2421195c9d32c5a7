"""Recording of some steps by `jax.profiler`, for TensorBoard, XProf or Perfetto."""

from pathlib import Path

import jax

from qsep_jax.training.settings import Train
from qsep_jax.training.state import TrainState


class Trace:
    """Records the profile of `train.trace_steps` steps from `train.trace_from` on into a folder."""

    def __init__(self, folder: Path, train: Train):
        self._folder = folder
        self._window = range(train.trace_from, train.trace_from + train.trace_steps)
        self._running = False

    def at(self, step: int, state: TrainState) -> None:
        """Start or end the recording if this step requires it; `state` is the state before the step."""
        if step in self._window and not self._running:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif self._running and step not in self._window:
            jax.block_until_ready(state)
            self._end()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._end()

    def _end(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
