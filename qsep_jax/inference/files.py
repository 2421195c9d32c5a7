"""Separation of recordings at any sample rate; outputs have the sample rate, channels and length of the input.

The audio is read from a file or an array block by block, so memory does not depend on its length.
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipelines.audio.arrays import Audio
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.samples import resample_blocks
from data_pipelines.audio.writing import INTEGER, AudioWriter, all_or_none, format_for
from data_pipelines.files import sweep, unfinished_folder
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import ConditionAt, separate_blocks
from qsep_jax.inference.transcription import separate_by_score
from qsep_jax.systems.base import Condition

# Called with the number of samples per channel that were read since the last call. An exception that it raises ends the
# work.
Advance = Callable[[int], None]
# Returns the context in which finished files appear under their names.
Publish = Callable[[list["Written"]], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
      path: Path of the file.
      container: Container format, as libsndfile names it.
      subtype: Sample format, as libsndfile names it.
      frames: Samples per channel.
      peak: The largest absolute sample, full scale being 1.
      clipped: Samples beyond full scale, which an integer format cut off.
      gain: Factor that the output was multiplied by; 1 unless rescaling was requested and needed.
    """

    path: Path
    container: str
    subtype: str
    frames: int
    peak: float
    clipped: int
    gain: float


def mixture_at(audio: Audio, rate: int) -> Iterator[np.ndarray]:
    """The blocks `[n, C]` of a recording, resampled to `rate` Hz."""
    return resample_blocks(audio.blocks(), audio.sample_rate, rate)


def separated(
    audio: Audio,
    model: Model,
    conditions: Sequence[Condition | ConditionAt],
    *,
    wiener_iterations: int = 0,
    stems: Sequence[int] = (),
    residual: bool = False,
    advance: Advance = lambda samples: None,
) -> Iterator[list[np.ndarray]]:
    """Separate a recording: the stems of each condition as blocks `[n, C]`, with its sample rate and length.

    Args:
      conditions: Each is a tree of `[1, …]`, or a function that returns the condition of the chunk that begins at a
        sample, at the model's sample rate.
      wiener_iterations: Iterations of a Wiener filter over all stems and the residual within each chunk.
      stems: Indices of the system's stems that are present, by default all; the others are taken to be silent.
      residual: Whether the last block is the residual, the mixture minus all stems.
      advance: Receives the number of samples of each block that was read.

    Raises:
      ValueError: if the recording cannot be read.
    """
    waiting: deque[np.ndarray] = deque()  # of the mixture, for the residual
    read, written, rate = 0, 0, model.system.sample_rate

    def mixture() -> Iterator[np.ndarray]:
        nonlocal read
        for block in audio.blocks():
            read += len(block)
            if residual:
                waiting.append(block)
            advance(len(block))
            yield block

    at_rate = resample_blocks(mixture(), audio.sample_rate, rate)
    blocks = separate_blocks(model, at_rate, audio.channels, conditions, wiener_iterations, stems)
    side_by_side = (block.swapaxes(0, 1).reshape(block.shape[1], -1) for block in blocks)  # [n, S · C]
    for block in resample_blocks(side_by_side, rate, audio.sample_rate):
        parts = np.split(block[: read - written], block.shape[1] // audio.channels, axis=1)
        written += len(parts[0])
        yield parts + ([_first(waiting, parts[0].shape) - sum(parts)] if residual else [])


def separated_by_score(
    audio: Audio, model: Model, condition: Condition, classes: np.ndarray, *, advance: Advance = lambda samples: None
) -> Iterator[list[np.ndarray]]:
    """Separate a source with known notes from a recording: blocks `[n, C]`, with its sample rate and length.

    Args:
      classes: Class of each frame of `hop_length` samples at the model's sample rate, int `[N]`.
      advance: Receives the number of samples of each block that was read.

    Raises:
      ValueError: if the recording cannot be read, or the model does not separate by score.
    """
    read, written, rate = 0, 0, model.system.sample_rate

    def mixture() -> Iterator[np.ndarray]:
        nonlocal read
        for block in audio.blocks():
            read += len(block)
            advance(len(block))
            yield block

    at_rate = resample_blocks(mixture(), audio.sample_rate, rate)
    blocks = separate_by_score(model, at_rate, audio.channels, condition, classes)
    for block in resample_blocks((block[0] for block in blocks), rate, audio.sample_rate):
        part = block[: read - written]
        written += len(part)
        yield [part]


def write_separated(
    file: AudioFile,
    paths: Sequence[Path],
    separate: Callable[[Audio], Iterable[Sequence[np.ndarray]]],
    *,
    rescale: bool = False,
    publish: Publish = lambda written: contextlib.nullcontext(),
) -> list[Written]:
    """Write the stems of a file, one path for each, in the sample format of the input.

    The files appear when all of them are complete.

    Args:
      separate: Returns the stems of a recording in blocks, such as `separated`.
      rescale: Whether all outputs are multiplied by one gain below 1 if any of them would clip. This needs disk space
        for 32-bit float copies of the outputs while it runs. Without it integer formats clip.
      publish: Returns the context in which the files appear, such as that of their record in a manifest.

    Raises:
      ValueError: if the file cannot be read or is silent, or the suffix of a path is of no format that can be written.
      OSError: if the output cannot be written.
    """
    size = file.frames * file.channels
    formats = [format_for(path, file.subtype, size, file.channel_mask) for path in paths]
    blocks = separate(_NotSilent(file))
    if not rescale or all(subtype not in INTEGER for _, subtype in formats):
        return _write(blocks, paths, formats, file, publish=publish)
    existing = next(folder for folder in paths[0].parents if folder.is_dir())  # on the disk that the outputs go to
    for folder in paths[0].parents[:3]:  # a killed process may have created the folders below its copies
        sweep(folder)
    with unfinished_folder(existing, "unscaled") as folder:
        drafts = [folder / f"{number}.wav" for number in range(len(paths))]
        draft_format = format_for(drafts[0], "FLOAT", size)
        written = _write(blocks, drafts, [draft_format] * len(drafts), file)
        gain = 1.0 / max(1.0, *(draft.peak for draft in written))
        unscaled = zip(*(AudioFile(draft).blocks() for draft in drafts), strict=True)
        scaled = ([gain * block for block in parts] for parts in unscaled)
        return _write(scaled, paths, formats, file, gain, publish)


def separate_file(
    file: AudioFile,
    model: Model,
    conditions: Sequence[Condition | ConditionAt],
    paths: Sequence[Path],
    *,
    wiener_iterations: int = 0,
    stems: Sequence[int] = (),
    residual: bool = False,
    rescale: bool = False,
    advance: Advance = lambda samples: None,
) -> list[Written]:
    """Separate a file and write the stems: one path for each stem of each condition, and the last for the residual.

    Arguments and errors are those of `separated` and `write_separated`.
    """

    def separate(audio: Audio) -> Iterator[list[np.ndarray]]:
        return separated(
            audio,
            model,
            conditions,
            wiener_iterations=wiener_iterations,
            stems=stems,
            residual=residual,
            advance=advance,
        )

    return write_separated(file, paths, separate, rescale=rescale)


class _NotSilent:
    """A file that raises ValueError after its last block if all of them were silent, so that nothing is written."""

    def __init__(self, file: AudioFile):
        self.name, self.sample_rate, self.channels, self.frames = (
            file.name,
            file.sample_rate,
            file.channels,
            file.frames,
        )
        self._file = file

    def blocks(self) -> Iterator[np.ndarray]:
        silent = True
        for block in self._file.blocks():
            silent = silent and not block.any()
            yield block
        if silent:
            raise ValueError(f"{self.name}: is silent: there is nothing to separate")


def _write(
    blocks: Iterable[Sequence[np.ndarray]],
    paths: Sequence[Path],
    formats: list[tuple[str, str]],
    source: AudioFile,
    gain: float = 1.0,
    publish: Publish = lambda written: contextlib.nullcontext(),
) -> list[Written]:
    """Write the blocks of each stem to its path, with the rate and channels of the source; all files or none."""
    writers: list[AudioWriter] = []

    def written() -> list[Written]:
        return [
            Written(writer.path, container, subtype, writer.frames, writer.peak, writer.clipped, gain)
            for writer, (container, subtype) in zip(writers, formats, strict=True)
        ]

    with all_or_none(writers, lambda: publish(written())):
        for path, (container, subtype) in zip(paths, formats, strict=True):
            writers.append(
                AudioWriter(path, source.sample_rate, source.channels, subtype, container, source.channel_mask)
            )
        for parts in blocks:
            for writer, block in zip(writers, parts, strict=True):
                writer.write(block)
    return written()


def _first(waiting: deque[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Remove the first `shape[0]` samples from a queue of blocks and return them, `[n, C]`."""
    parts, missing = [np.zeros((0, shape[1]), np.float32)], shape[0]
    while missing:
        block = waiting.popleft()
        parts.append(block[:missing])
        if len(block) > missing:
            waiting.appendleft(block[missing:])
        missing -= len(parts[-1])
    return np.concatenate(parts)
