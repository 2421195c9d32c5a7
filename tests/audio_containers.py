"""Every container and codec that tests read, written with a short signal of two channels."""

from pathlib import Path

import av
import numpy as np
import soundfile

FRAMES = 20_011
# A tone with noise, so that codecs have something to store in every frame.
SIGNAL = 0.3 * np.sin(np.arange(FRAMES) * 0.06)[:, None] + np.random.default_rng(0).normal(0, 0.02, (FRAMES, 2))
SNDFILE = {
    "pcm.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "extensible.wav": ("WAVEX", "PCM_24"),
    "wide.rf64": ("RF64", "PCM_24"),
    "wave.w64": ("W64", "PCM_24"),
    "sound.aiff": ("AIFF", "PCM_16"),
    "sound.aifc": ("AIFF", "FLOAT"),
    "core.caf": ("CAF", "PCM_24"),
    "alac.caf": ("CAF", "ALAC_24"),
    "sun.au": ("AU", "PCM_16"),
    "free.flac": ("FLAC", "PCM_24"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "layer.mp3": ("MP3", "MPEG_LAYER_III"),
}
# FFmpeg's encoder and format.
FFMPEG = {
    "aac.m4a": ("aac", "mp4"),
    "fast.m4a": ("aac", "mp4"),
    "alac.m4a": ("alac", "mp4"),
    "pcm.mov": ("pcm_s16le", "mov"),
    "opus.webm": ("libopus", "webm"),
    "flac.mka": ("flac", "matroska"),
    "aac.aac": ("aac", "adts"),
    "pack.wv": ("wavpack", "wv"),
    "true.tta": ("tta", "tta"),
    "mp3.avi": ("libmp3lame", "avi"),
}
LOSSLESS = {"PCM_16", "PCM_24", "FLOAT", "ALAC_24", "alac", "pcm_s16le", "flac", "wavpack", "tta"}


def write_sndfile(path: Path, container: str, subtype: str, signal: np.ndarray = SIGNAL) -> Path:
    with soundfile.SoundFile(path, "w", 48_000, signal.shape[1], subtype, format=container) as file:
        for start in range(0, len(signal), 2**14):
            file.write(signal[start : start + 2**14])
    return path


def write_ffmpeg(path: Path, codec: str, container: str, signal: np.ndarray = SIGNAL) -> Path:
    options = {"movflags": "faststart"} if path.stem in ("fast", "alac", "pcm") else {}
    with av.open(str(path), "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=48_000, layout="stereo")
        formats = [form for form in stream.codec_context.codec.audio_formats if form.bytes > 1]  # not 8 bits
        stream.codec_context.format = formats[0]
        resampler = av.AudioResampler(formats[0], "stereo", 48_000)
        for start in range(0, len(signal), 1024):
            samples = np.ascontiguousarray(signal[start : start + 1024].T, np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
            frame.sample_rate, frame.pts = 48_000, start
            for converted in resampler.resample(frame):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return path


def write(folder: Path, name: str, signal: np.ndarray = SIGNAL) -> Path:
    """Write the file of a name in `SNDFILE` or `FFMPEG`: a signal `[T, 2]` at 48 kHz."""
    if name in SNDFILE:
        return write_sndfile(folder / name, *SNDFILE[name], signal)
    return write_ffmpeg(folder / name, *FFMPEG[name], signal)
