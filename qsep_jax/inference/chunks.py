"""A signal of any length through a model of fixed length: chunks with discarded context, cross-faded and added.

A model knows least at the ends of its input. So each chunk gives up `context` samples at both ends, and neighbours
share `fade` samples in which one takes over from the other. The weights of the chunks add up to one everywhere.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


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
        count = max(1, -(-(length + self.fade) // self.hop))
        return [number * self.hop - self.context - self.fade for number in range(count)]

    def weights(self) -> np.ndarray:
        """Weight of each sample of a chunk, float32 `[chunk]`; shifted by `hop` they add up to one."""
        ramp = (np.arange(self.fade, dtype=np.float32) + 0.5) / max(self.fade, 1)
        flat = np.ones(self.chunk - 2 * self.context - 2 * self.fade, np.float32)
        return np.pad(np.concatenate([ramp, flat, ramp[::-1]]), self.context)


def default_plan(chunk: int) -> ChunkPlan:
    """An eighth of the chunk of context at both ends and as much of fade: five eighths forward at a time."""
    return ChunkPlan(chunk, chunk // 8, chunk // 8)


def over_chunks(signal: np.ndarray, plan: ChunkPlan, batch: int, process: Callable[[np.ndarray], np.ndarray]):
    """Run `process` `[batch, chunk] → [batch, S, chunk]` over the chunks of `[T, C]`: `[S, T, C]` float32.

    Channels are chunks of their own, and the last batch is filled with zeros, so `process` sees one shape.
    """
    length, channels = signal.shape
    starts = plan.starts(length)
    front, back = -starts[0], max(0, starts[-1] + plan.chunk - length)
    padded = np.pad(signal, ((front, back), (0, 0)))
    jobs = [(start + front, channel) for start in starts for channel in range(channels)]
    weights, out = plan.weights(), None
    for first in range(0, len(jobs), batch):
        group = jobs[first : first + batch]
        chunks = np.zeros((batch, plan.chunk), np.float32)
        for row, (start, channel) in enumerate(group):
            chunks[row] = padded[start : start + plan.chunk, channel]
        results = np.asarray(process(chunks))
        if out is None:
            out = np.zeros((results.shape[1], len(padded), channels), np.float32)
        for row, (start, channel) in enumerate(group):
            out[:, start : start + plan.chunk, channel] += results[row] * weights
    if out is None:
        raise ValueError("there is no signal to separate: it has no channels")
    return out[:, front : front + length]
