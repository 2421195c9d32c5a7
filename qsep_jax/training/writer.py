"""Output of a run during training: `metrics.jsonl` for programs, TensorBoard for people."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines import files
from qsep_jax.training.tensorboard import Board

# Range of a spectrogram picture in decibels below its loudest bin.
FLOOR_DB = 80.0


class Writer:
    """Writes scalars, audio and spectrograms of a run; only one process of a run has a writer.

    All methods raise OSError with the path and a remedy if the run folder cannot be written.

    Args:
      folder: run folder.
      step: step from which the run continues; lines of later steps, which a killed run left, are removed because the
        run will write them again.
    """

    def __init__(self, folder: Path, step: int = 0):
        self._folder, self._path = folder, folder / "metrics.jsonl"
        with self._explain_errors():
            if self._path.exists():
                text = self._path.read_text(encoding="utf-8", errors="replace")
                lines = [line for line in text.splitlines() if _step_of(line, step + 1) <= step]
                files.write_text(self._path, "".join(f"{line}\n" for line in lines))
            self._file = self._path.open("a", encoding="utf-8")
            self._board = Board(folder / "tensorboard", step + 1 if step else None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write one line of metrics."""
        line = {"step": step, "time": round(time.time(), 3), **values}
        with self._explain_errors():
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.scalar(name, value, step)

    def sound(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        """Write a waveform `[T, C]` as mono audio and as a picture of its spectrogram."""
        mono = np.asarray(audio, np.float32).mean(axis=1)
        with self._explain_errors():
            self._board.audio(name, mono / max(1.0, float(np.abs(mono).max())), step, sample_rate)
            self._board.picture(name, spectrogram_picture(mono), step)

    def close(self) -> None:
        """Write all pending output."""
        with self._explain_errors():
            try:
                self._file.close()
            finally:
                self._board.close()

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Add the folder and the remedy to an error of the operating system."""
        try:
            yield
        except OSError as error:
            number, path = error.errno or errno.EIO, str(error.filename or self._folder)
            reason = f"{os.strerror(number)}: {files.FREE_SPACE}, and the same command continues"
            raise OSError(number, reason, path) from None


def _step_of(line: str, default: int) -> int:
    """Return the step of a line of metrics, or `default` for an incomplete line that a killed run left."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return default


def spectrogram_picture(signal: np.ndarray, window_length: int = 1024) -> np.ndarray:
    """Draw the log-magnitude spectrogram of `[T]` samples, uint8 `[F, N, 3]`, with low frequencies at the bottom."""
    from matplotlib import colormaps

    hop = window_length // 4
    count = max(1, (len(signal) - window_length) // hop + 1)
    signal = np.pad(signal, (0, max(0, window_length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, window_length)[::hop][:count]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_length)))
    level = 20 * np.log10(np.maximum(magnitude, 1e-10) / max(float(magnitude.max()), 1e-10))
    scaled = np.clip(1.0 + level / FLOOR_DB, 0.0, 1.0)
    return (colormaps["magma"](scaled.T[::-1])[..., :3] * 255).astype(np.uint8)
