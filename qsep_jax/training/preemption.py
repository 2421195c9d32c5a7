"""Handling of preemption: Slurm, Kubernetes and cloud machines send SIGTERM some time before they kill a process."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Inside its `with` block, SIGTERM requests the run to end instead of terminating the process.

    In a distributed run, jax handles the signal after `jax.distributed.initialize`, whichever process receives it.

    Attributes:
      stopped_at: Step at which the run was requested to end, or None.
    """

    def __init__(self):
        self.stopped_at: int | None = None
        self._requested, self._single_process = False, jax.process_count() == 1

    def should_stop(self, step: int) -> bool:
        """Return whether to save and end at this step.

        It must be called at every step in all processes, and returns the same result in all of them.
        """
        stop = self._requested if self._single_process else multihost_utils.reached_preemption_sync_point(step)
        if stop:
            self.stopped_at = step
        return stop

    def __enter__(self) -> "Preemption":
        if self._single_process:
            self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._single_process:
            signal.signal(signal.SIGTERM, self._previous)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
