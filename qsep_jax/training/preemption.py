"""Being asked to end: SIGTERM, which Slurm, Kubernetes and cloud machines send some time before they kill."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Takes SIGTERM for a wish while in its `with` block, where it would end the process at once otherwise.

    Of several processes jax itself does so, from `jax.distributed.initialize` on, whichever of them is asked.
    """

    def __init__(self):
        self.stopped_at: int | None = None
        self._asked, self._alone = False, jax.process_count() == 1

    def reached(self, step: int) -> bool:
        """Whether to save and end at this step; to be called at every one, in all processes, and the same in all."""
        stop = self._asked if self._alone else multihost_utils.reached_preemption_sync_point(step)
        if stop:
            self.stopped_at = step
        return stop

    def __enter__(self) -> "Preemption":
        if self._alone:
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._alone:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
