"""Audio files through a model, block by block: rate, channels, length and sample format come out as they went in."""

import dataclasses
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipelines.audio.reading import AudioFile, resample_blocks
from data_pipelines.audio.writing import INTEGER, AudioWriter, format_for, together
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import ConditionAt, separate_blocks
from qsep_jax.systems.base import Condition


@dataclasses.dataclass(frozen=True)
class Written:
    """A file that was written: `clipped` of its samples were beyond full scale, the largest was `peak`.

    It was multiplied by `gain` before, which is 1 unless a rescaling was asked for and needed.
    """

    path: Path
    container: str
    subtype: str
    frames: int
    peak: float
    clipped: int
    gain: float


def mixture_at(file: AudioFile, rate: int) -> Iterator[np.ndarray]:
    """The blocks of a file, resampled."""
    return resample_blocks(file.blocks(), file.sample_rate, rate)


def separate_file(
    file: AudioFile,
    model: Model,
    conditions: Sequence[Condition | ConditionAt],
    paths: Sequence[Path],
    *,
    residual: Path | None = None,
    rescale: bool = False,
    wiener_iterations: int = 0,
    stems: Sequence[int] = (),
    advance: Callable[[int], None] = lambda samples: None,
) -> list[Written]:
    """Separate a file and write each stem of each condition to its path, in order; the residual comes last.

    A condition is a tree of `[1, …]` or one for each chunk, by its first sample at the model's rate.

    The files appear when all of them are whole. Memory is bounded by the chunks, whatever the length.

    Args:
      residual: where to write what the stems leave of the mixture.
      rescale: whether all outputs are turned down by one gain if any of them would clip; takes as much room on the disk
        as 32-bit float files meanwhile. Otherwise integer formats clip.
      stems: which of the system's stems there are, by default all: the others are taken to be silent.
      advance: told how many samples were read.

    Raises:
      ValueError: if the file cannot be read or is silent, or a path asks for a format that cannot be written.
      OSError: if the output cannot be written.
    """
    targets = [*paths, *([residual] if residual else [])]
    size = file.frames * file.channels
    formats = [format_for(path, file.subtype, size) for path in targets]
    blocks = _stems(file, model, conditions, wiener_iterations, stems, residual is not None, advance)
    if not rescale or all(subtype not in INTEGER for _, subtype in formats):
        return _write(blocks, targets, formats, file.sample_rate, file.channels)
    there = next(folder for folder in targets[0].parents if folder.is_dir())  # on the disk that the outputs go to
    with tempfile.TemporaryDirectory(dir=there, prefix=".unscaled") as folder:
        drafts = [Path(folder) / f"{number}.wav" for number in range(len(targets))]
        kind = format_for(drafts[0], "FLOAT", size)
        peaks = [draft.peak for draft in _write(blocks, drafts, [kind] * len(drafts), file.sample_rate, file.channels)]
        gain = 1.0 / max(1.0, *peaks)
        unscaled = zip(*(AudioFile(draft).blocks() for draft in drafts), strict=True)
        scaled = ([gain * block for block in parts] for parts in unscaled)
        return _write(scaled, targets, formats, file.sample_rate, file.channels, gain)


def _write(
    blocks: Iterable[Sequence[np.ndarray]],
    paths: list[Path],
    formats: list[tuple[str, str]],
    rate: int,
    channels: int,
    gain: float = 1.0,
) -> list[Written]:
    """Write the columns of `blocks` to their paths; all of them or none."""
    writers: list[AudioWriter] = []
    with together(writers):
        for path, (container, subtype) in zip(paths, formats, strict=True):
            writers.append(AudioWriter(path, rate, channels, subtype, container))
        for parts in blocks:
            for writer, block in zip(writers, parts, strict=True):
                writer.write(block)
    return [
        Written(writer.path, container, subtype, writer.frames, writer.peak, writer.clipped, gain)
        for writer, (container, subtype) in zip(writers, formats, strict=True)
    ]


def _stems(
    file: AudioFile,
    model: Model,
    conditions: Sequence[Condition | ConditionAt],
    wiener_iterations: int,
    chosen: Sequence[int],
    residual: bool,
    advance: Callable[[int], None],
) -> Iterator[list[np.ndarray]]:
    """The stems at the file's rate, `[n, C]` each, as long as the file, and what they leave of it if asked for."""
    waiting: deque[np.ndarray] = deque()  # of the mixture, not yet met by the stems
    taken, given, heard, rate = 0, 0, False, model.system.sample_rate

    def mixture() -> Iterator[np.ndarray]:
        nonlocal taken, heard
        for block in file.blocks():
            taken, heard = taken + len(block), heard or bool(block.any())
            if residual:
                waiting.append(block)
            advance(len(block))
            yield block

    at_rate = resample_blocks(mixture(), file.sample_rate, rate)
    separated = separate_blocks(model, at_rate, file.channels, conditions, wiener_iterations, chosen)
    side_by_side = (stems.swapaxes(0, 1).reshape(stems.shape[1], -1) for stems in separated)  # [n, S · C]
    for block in resample_blocks(side_by_side, rate, file.sample_rate):
        stems = np.split(block[: taken - given], block.shape[1] // file.channels, axis=1)
        given += len(stems[0])
        yield stems + ([_first(waiting, stems[0].shape) - sum(stems)] if residual else [])
    if not heard:
        raise ValueError(f"{file.path}: is silent: there is nothing to separate")


def _first(waiting: deque[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Take the first samples, `[n, C]`, out of a queue of blocks."""
    parts, missing = [np.zeros((0, shape[1]), np.float32)], shape[0]
    while missing:
        block = waiting.popleft()
        parts.append(block[:missing])
        if len(block) > missing:
            waiting.appendleft(block[missing:])
        missing -= len(parts[-1])
    return np.concatenate(parts)
