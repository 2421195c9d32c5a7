"""Processing of signals of any length by a model of fixed length, in overlapping chunks that are cross-faded.

The signal is read and the result is returned in blocks, so memory depends on the chunks and not on the length of the
signal.

Estimates are least accurate at the ends of a chunk, where the model lacks context. Therefore `context` samples at both
ends of each chunk are discarded, and neighbouring chunks are cross-faded over `fade` samples. The weights of all chunks
add up to one at every sample.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from qsep_jax.systems.base import System


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """How a signal is cut into chunks.

    Attributes:
      chunk: Samples of a chunk.
      context: Samples at each end of a chunk whose estimates are discarded.
      fade: Samples over which neighbouring chunks are cross-faded.

    Raises:
      ValueError: if context and fades leave no sample of a chunk.
    """

    chunk: int
    context: int
    fade: int

    def __post_init__(self):
        if min(self.context, self.fade) < 0 or self.hop <= 0 or self.hop < self.fade:
            raise ValueError(
                f"chunks of {self.chunk} samples are too short for a context of {self.context} samples at both ends "
                f"and a fade of {self.fade}"
            )

    @property
    def hop(self) -> int:
        """Samples from the start of one chunk to the start of the next."""
        return self.chunk - 2 * self.context - self.fade

    def starts(self, length: int) -> list[int]:
        """The first sample of each chunk of a signal of `length` samples.

        The first and the last chunk extend beyond the signal by their context and fade.
        """
        count = -(-(length + self.fade) // self.hop)
        return [index * self.hop - self.context - self.fade for index in range(count)]

    def weights(self) -> np.ndarray:
        """The weight of each sample of a chunk, float32 `[chunk]`; copies shifted by `hop` add up to one."""
        ramp = (np.arange(self.fade, dtype=np.float32) + 0.5) / max(self.fade, 1)
        flat = np.ones(self.chunk - 2 * self.context - 2 * self.fade, np.float32)
        return np.pad(np.concatenate([ramp, flat, ramp[::-1]]), self.context)


def default_plan(chunk: int, context: int | None = None) -> ChunkPlan:
    """The plan with an eighth of the chunk as context at both ends, an eighth as fade and a hop of five eighths.

    Args:
      context: Samples of context, if they differ from an eighth of the chunk. The fade is then at most a sixth of the
        samples that are not context.
    """
    context = chunk // 8 if context is None else context
    return ChunkPlan(chunk, context, min(chunk // 8, (chunk - 2 * context) // 6))


def plan_of(system: System) -> ChunkPlan:
    """The plan with the chunk and context lengths of a system."""
    return default_plan(system.chunk_samples, system.context_samples)


def over_chunks(
    blocks: Iterable[np.ndarray], plan: ChunkPlan, group: int, process: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Apply `process` to the chunks of a signal in blocks `[n, C]`: blocks `[S, m, C]`, float32.

    The result has the length of the signal and does not depend on the lengths of the blocks. At most `group` chunks,
    their results and one block are in memory at the same time.

    Args:
      group: Number of chunks that are processed together; the last group is filled up with the silence after the
        signal.
      process: Function from float32 `[group, chunk, C]` to `[group, S, chunk, C]`.

    Raises:
      ValueError: if the signal has no channels.
    """
    signal = _Window(blocks, plan.context + plan.fade)
    retained = slice(plan.context, plan.chunk - plan.context)
    weights, step = plan.weights()[retained, None], group * plan.hop
    sums, position = None, -plan.fade  # weighted sums of the chunks so far, from the sample `position` on
    while True:
        chunks = np.stack([signal.read(index * plan.hop, plan.chunk) for index in range(group)])
        if signal.ended and position >= signal.length:
            return
        results = np.asarray(process(chunks))[:, :, retained]
        stems, channels = results.shape[1], results.shape[3]
        overlap = np.zeros((stems, plan.fade, channels), np.float32) if sums is None else sums
        sums = np.concatenate([overlap, np.zeros((stems, step, channels), np.float32)], axis=1)
        for index, result in enumerate(results):
            sums[:, index * plan.hop :][:, : len(weights)] += result * weights
        finished, sums = sums[:, :step], sums[:, step:]
        stop = min(step, signal.length - position) if signal.ended else step
        if stop > max(0, -position):
            yield finished[:, max(0, -position) : stop]
        position += step
        signal.advance(step)


def finite(blocks: Iterable[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """The blocks `[S, m, C]` of a model's output, unchanged.

    Args:
      rate: Samples m of the output in a second.

    Raises:
      ValueError: if a sample is NaN or infinite; the message has its time.
    """
    position = 0
    for block in blocks:
        usable = np.isfinite(block).all(axis=(0, 2))
        if not usable.all():
            raise ValueError(
                f"the model's output is NaN or infinite at {(position + np.argmin(usable)) / rate:.3f} s: its weights "
                "are damaged or its training diverged; use another checkpoint or model"
            )
        position += block.shape[1]
        yield block


class _Window:
    """A signal in blocks, with silence before and after it, that is read from a position that moves forward.

    Attributes:
      length: Samples that were taken from the blocks so far.
      ended: Whether all blocks were taken.
    """

    def __init__(self, blocks: Iterable[np.ndarray], silence_before: int):
        self._blocks, self._buffer = iter(blocks), np.zeros((0, 0), np.float32)
        self.length, self.ended = 0, False
        self._append_block()
        channels = self._buffer.shape[1]
        if not channels:
            raise ValueError("the signal to separate has no channels")
        self._buffer = np.concatenate([np.zeros((silence_before, channels), np.float32), self._buffer])

    def _append_block(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            self.ended = True
            return
        self.length += len(block)
        self._buffer = np.concatenate([self._buffer, block]) if self._buffer.size else np.asarray(block, np.float32)

    def read(self, offset: int, samples: int) -> np.ndarray:
        """The `samples` samples that begin `offset` samples after the current position, `[samples, C]`."""
        while not self.ended and len(self._buffer) < offset + samples:
            self._append_block()
        part = self._buffer[offset : offset + samples]
        return np.pad(part, ((0, samples - len(part)), (0, 0)))

    def advance(self, samples: int) -> None:
        """Move the position forward."""
        self._buffer = self._buffer[samples:]
