"""Audio files in and out of arrays, with one clear error for each thing that can be wrong with a file."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import soundfile
import soxr

from data_pipelines.schema import AUDIO_DTYPE, FULL_SCALE

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
READABLE = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".rf64", ".w64", ".caf")


def read_audio(path: Path | str) -> tuple[np.ndarray, int]:
    """Whole file as float32 `[T, C]` in −1…1, and its sample rate in Hz.

    Raises:
      ValueError: if the file is missing, is not audio, is truncated, is empty, holds samples that are not finite, or
        has a rate outside 8 to 192 kHz.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() not in READABLE:
        raise ValueError(f"{path}: '{path.suffix}' is not a known audio extension; known are {', '.join(READABLE)}")
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised = file.samplerate, file.frames
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read as audio ({_reason(error)}); is it damaged or misnamed?") from None
    check_rate(rate, path)
    if promised == 0:
        raise ValueError(f"{path}: holds no samples")
    _check_whole(path, len(samples), promised)
    if not np.isfinite(samples).all():
        bad = int(np.argmin(np.isfinite(samples).all(axis=1)))
        raise ValueError(f"{path}: sample {bad} is NaN or infinite; repair the file first")
    return samples, rate


def check_rate(rate: int, path: Path | str) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{path}: sample rate {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz; resample it")


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def _check_whole(path: Path, read: int, promised: int) -> None:
    """A truncated WAV reads without complaint: libsndfile shortens `frames` to what is there. The header tells."""
    missing = promised - read
    if path.suffix.lower() == ".wav":
        with path.open("rb") as file:
            missing = max(missing, _missing_bytes(file.read(4096), path.stat().st_size))
    if missing > 0:
        raise ValueError(f"{path}: is truncated: its header promises more audio than the file holds")


def _missing_bytes(head: bytes, size: int) -> int:
    """Bytes of the data chunk that a RIFF header promises and the file lacks; 0 when the header does not say."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0
    position = 12
    while position + 8 <= len(head):
        name, length = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
        if name == b"data":
            # Writers that stream leave 0 or the largest number there, and fill it in only when they are closed.
            return 0 if length in (0, 0xFFFFFFFF, 0xFFFFFFFF - 1) else max(0, position + 8 + length - size)
        position += 8 + length + length % 2
    return 0


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """`[T, C]` at `rate` → float32 `[⌈T · target_rate / rate⌉, C]` (soxr, high quality)."""
    if rate == target_rate:
        return audio
    length = -(-len(audio) * target_rate // rate)
    out = soxr.resample(audio, rate, target_rate, quality="HQ").astype(np.float32, copy=False)
    return fit_length(out, length)


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad `[T, C]` to `[length, C]`."""
    if len(audio) >= length:
        return audio[:length]
    return np.concatenate([audio, np.zeros((length - len(audio), *audio.shape[1:]), audio.dtype)])


def fit_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """`[T, C]` → `[T, channels]`: the mean of all channels for one, copies of a single one for several.

    Raises:
      ValueError: for any other change of channel count.
    """
    if audio.shape[1] == channels:
        return audio
    if channels == 1:
        return audio.mean(axis=1, keepdims=True, dtype=np.float32)
    if audio.shape[1] == 1:
        return np.repeat(audio, channels, axis=1)
    raise ValueError(f"cannot turn {audio.shape[1]} channels into {channels}: give 1 or {channels} channels")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Float −1…1 → int16, rounded; clips, and warns by how much, when samples pass full scale."""
    peak = float(np.max(np.abs(audio), initial=0.0))
    if peak > 1.0:
        warnings.warn(f"audio peaks at {peak:.3f} and is clipped to full scale", stacklevel=2)
    return np.clip(np.rint(audio * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(AUDIO_DTYPE)


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write float `[T, C]` in −1…1 as a WAV file; integer formats clip what is beyond full scale.

    The file appears under its name only when all of it is on disk.

    Raises:
      OSError: if the folder cannot be written or the disk is full; nothing is left behind then.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, sample_rate, subtype=subtype, format="WAV")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from None
