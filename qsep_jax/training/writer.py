"""What a run says of itself while it trains: `metrics.jsonl` for programs, TensorBoard for people."""

import json
import os
import time
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

# Decibels below the loudest bin that a spectrogram picture still shows.
FLOOR_DB = 80.0


class Writer:
    """Writes scalars, sounds and spectrograms of one run; one process of a run has one.

    Args:
      folder: the run folder.
      step: where the run continues; what a killed run wrote beyond it is dropped, for it will be written again.
    """

    def __init__(self, folder: Path, step: int = 0):
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            lines = [line for line in self._path.read_text().splitlines() if _step_of(line, step + 1) <= step]
            unfinished = self._path.with_suffix(".part")
            unfinished.write_text("".join(f"{line}\n" for line in lines))
            os.replace(unfinished, self._path)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        line = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def sound(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        """A waveform `[T, C]`, as sound (mixed down) and as a picture of its spectrogram."""
        mono = np.asarray(audio, np.float32).mean(axis=1)
        self._board.add_audio(name, mono / max(1.0, float(np.abs(mono).max())), step, sample_rate)
        self._board.add_image(name, spectrogram_picture(mono), step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _step_of(line: str, otherwise: int) -> int:
    """The step of a line of metrics; `otherwise` for the half line that a kill may leave."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return otherwise


def spectrogram_picture(signal: np.ndarray, window_length: int = 1024) -> np.ndarray:
    """Log-magnitude spectrogram of `[T]` samples as a picture, uint8 `[F, N, 3]`, low frequencies at the bottom."""
    from matplotlib import colormaps

    hop = window_length // 4
    count = max(1, (len(signal) - window_length) // hop + 1)
    signal = np.pad(signal, (0, max(0, window_length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, window_length)[::hop][:count]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_length)))
    level = 20 * np.log10(np.maximum(magnitude, 1e-10) / max(float(magnitude.max()), 1e-10))
    scaled = np.clip(1.0 + level / FLOOR_DB, 0.0, 1.0)
    return (colormaps["magma"](scaled.T[::-1])[..., :3] * 255).astype(np.uint8)
