"""A signal of any length through a model of fixed length: chunks with discarded context, cross-faded and added.

The signal comes and goes in blocks, so that memory is bounded by the chunks and not by the signal.

A model knows least at the ends of its input. So each chunk gives up `context` samples at both ends, and neighbours
share `fade` samples in which one takes over from the other. The weights of the chunks add up to one everywhere.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from qsep_jax.systems.base import System


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """How a signal is cut: chunks of `chunk` samples, of which `context` at both ends are thrown away.

    Raises:
      ValueError: if a chunk would have nothing left to keep.
    """

    chunk: int
    context: int
    fade: int

    def __post_init__(self):
        if min(self.context, self.fade) < 0 or self.hop <= 0 or self.hop < self.fade:
            raise ValueError(
                f"chunks of {self.chunk} samples cannot give up {self.context} at both ends and fade over {self.fade}"
            )

    @property
    def hop(self) -> int:
        """Samples from one chunk to the next."""
        return self.chunk - 2 * self.context - self.fade

    def starts(self, length: int) -> list[int]:
        """Where the chunks begin; the first and last reach beyond the signal by their context and fade."""
        count = -(-(length + self.fade) // self.hop)
        return [number * self.hop - self.context - self.fade for number in range(count)]

    def weights(self) -> np.ndarray:
        """Weight of each sample of a chunk, float32 `[chunk]`; shifted by `hop` they add up to one."""
        ramp = (np.arange(self.fade, dtype=np.float32) + 0.5) / max(self.fade, 1)
        flat = np.ones(self.chunk - 2 * self.context - 2 * self.fade, np.float32)
        return np.pad(np.concatenate([ramp, flat, ramp[::-1]]), self.context)


def default_plan(chunk: int, context: int | None = None) -> ChunkPlan:
    """An eighth of the chunk of context at both ends and as much of fade: five eighths forward at a time.

    With more `context` the fade is a sixth of what is left.
    """
    context = chunk // 8 if context is None else context
    return ChunkPlan(chunk, context, min(chunk // 8, (chunk - 2 * context) // 6))


def plan_of(system: System) -> ChunkPlan:
    """How long signals are cut for a system."""
    return default_plan(system.chunk_samples, system.context_samples)


def over_chunks(
    blocks: Iterable[np.ndarray], plan: ChunkPlan, group: int, process: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Run `process` over the chunks of a signal that comes in blocks `[n, C]`: blocks `[S, m, C]` float32.

    What comes out is as long as what went in and does not depend on how it was cut. No more than `group` chunks, their
    results and one block are held at a time.

    Args:
      group: chunks that pass at a time; `process` maps float32 `[group, chunk, C]` to `[group, S, chunk, C]`. The last
        group reaches into the silence after the signal.

    Raises:
      ValueError: if the signal has no channels.
    """
    signal, kept = _Window(blocks, plan.context + plan.fade), slice(plan.context, plan.chunk - plan.context)
    weights, step = plan.weights()[kept, None], group * plan.hop
    sums, position = None, -plan.fade  # what the chunks so far add to the samples from `position` on
    while True:
        chunks = np.stack([signal.read(number * plan.hop, plan.chunk) for number in range(group)])
        if signal.ended and position >= signal.length:
            return
        results = np.asarray(process(chunks))[:, :, kept]
        stems, channels = results.shape[1], results.shape[3]
        before = np.zeros((stems, plan.fade, channels), np.float32) if sums is None else sums
        sums = np.concatenate([before, np.zeros((stems, step, channels), np.float32)], axis=1)
        for number, result in enumerate(results):
            sums[:, number * plan.hop :][:, : len(weights)] += result * weights
        done, sums = sums[:, :step], sums[:, step:]
        stop = min(step, signal.length - position) if signal.ended else step
        if stop > max(0, -position):
            yield done[:, max(0, -position) : stop]
        position += step
        signal.advance(step)


class _Window:
    """A signal in blocks, with silence before and after it, read from a place that moves forward."""

    def __init__(self, blocks: Iterable[np.ndarray], before: int):
        self._blocks, self._held = iter(blocks), np.zeros((0, 0), np.float32)
        self.length, self.ended = 0, False
        self._take()
        if not self._held.shape[1]:
            raise ValueError("there is no signal to separate: it has no channels")
        self._held = np.concatenate([np.zeros((before, self._held.shape[1]), np.float32), self._held])

    def _take(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            self.ended = True
            return
        self.length += len(block)
        self._held = np.concatenate([self._held, block]) if self._held.size else np.asarray(block, np.float32)

    def read(self, offset: int, samples: int) -> np.ndarray:
        """`[samples, C]` from `offset` samples after the present place."""
        while not self.ended and len(self._held) < offset + samples:
            self._take()
        part = self._held[offset : offset + samples]
        return np.pad(part, ((0, samples - len(part)), (0, 0)))

    def advance(self, samples: int) -> None:
        self._held = self._held[samples:]
