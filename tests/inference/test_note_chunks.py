"""Chunked transcription, separation by score and synthesis: equal to one pass over the complete signal."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.schema import CLASSES, SILENCE_CLASS
from qsep_jax.dsp.griffin_lim import griffin_lim
from qsep_jax.dsp.stft import stft
from qsep_jax.inference import synthesis
from qsep_jax.inference.model import Model
from qsep_jax.inference.synthesis import synthesize
from qsep_jax.inference.transcription import separate_by_score, transcribe_blocks

HOP = 32


@dataclasses.dataclass(frozen=True)
class Frames:
    """A substitute for a system that processes each frame independently of the others."""

    tasks: tuple[str, ...] = ("transcribe", "separate_by_score", "synthesize")
    sample_rate: int = 320
    hop_length: int = HOP
    window_length: int = 64
    frames: int = 16

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    def transcribe(self, variables, mixture, condition):
        """The most probable class is the rounded mean of the frame; others are possible, so cross-fades matter."""
        means = mixture[..., 0].reshape(len(mixture), -1, HOP).mean(-1) * condition
        return jax.nn.softmax(-jnp.abs(means[..., None] - jnp.arange(CLASSES)[None, None]) * variables)

    def separate_by_score(self, variables, mixture, condition, roll):
        """Each sample is multiplied by the class of its frame."""
        levels = jnp.repeat(roll.argmax(-1), HOP, axis=1)
        return (mixture[..., 0] * levels * condition)[:, None, :, None]

    def synthesize(self, variables, mixture, condition, roll):
        """The bin of the class has the mean absolute value of the frame, times 10."""
        level = jnp.abs(mixture[..., 0].reshape(len(mixture), -1, HOP)).mean(-1)
        bins = jnp.arange(self.window_length // 2 + 1)[None, None]
        return level[..., None] * (bins == roll.argmax(-1)[..., None] % 32) * condition[..., None] * 10


MODEL = Model(Frames(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]
CONDITION = np.ones((1, 1), np.float32)
RNG = np.random.default_rng(0)
LENGTHS = [1, HOP, HOP + 1, 16 * HOP, 100 * HOP + 7]


def in_blocks(signal: np.ndarray, size: int) -> list[np.ndarray]:
    return [signal[start : start + size] for start in range(0, len(signal), size)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", [1, HOP - 1, 500, 10**6])
def test_transcription_equals_that_of_the_complete_signal(length, size):
    signal = RNG.uniform(0, 88, (length, 2)).astype(np.float32)
    probabilities = np.concatenate(list(transcribe_blocks(MODEL, in_blocks(signal, size), CONDITION)))
    frames = -(-length // HOP)
    padded = np.pad(signal.mean(1), (0, frames * HOP - length))[None, :, None]
    assert probabilities.shape == (frames, CLASSES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, MODEL.system.transcribe(1.0, padded, CONDITION)[0], atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("channels", "size"), [(1, 1), (2, 500), (11, 10**6)])
def test_separation_by_score_equals_that_of_the_complete_signal(length, channels, size):
    signal = RNG.uniform(-1, 1, (length, channels)).astype(np.float32)
    classes = RNG.integers(0, CLASSES, length // HOP)
    estimates = list(separate_by_score(MODEL, in_blocks(signal, size), channels, CONDITION, classes))
    after = np.full(HOP, SILENCE_CLASS)
    expected = signal * np.concatenate([np.repeat(classes, HOP), after])[:length, None]
    assert all(block.shape[0] == 1 for block in estimates)
    np.testing.assert_allclose(np.concatenate(estimates, axis=1)[0], expected, atol=1e-4)


def test_memory_is_bounded():
    """Blocks are read only when a chunk needs them."""
    read = 0

    def blocks():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield np.ones((HOP, 1), np.float32)

    returned = 0
    for rows in transcribe_blocks(MODEL, blocks(), CONDITION):
        returned += len(rows)
        assert read - returned <= 10 * 16
    assert returned == 1000
    read = returned = 0
    for part in separate_by_score(MODEL, blocks(), 1, CONDITION, np.zeros(1000)):
        returned += part.shape[1] // HOP
        assert read - returned <= 10 * 16


@pytest.mark.parametrize(("source", "frames"), [(50, 200), (100 * HOP, 40), (31, 1)])
def test_synthesis_repeats_the_recording_to_the_length_of_the_notes(source, frames):
    audio = RNG.uniform(0.5, 1, (source, 2)).astype(np.float32)
    classes = RNG.integers(1, 31, frames)
    sound = synthesize(MODEL, audio, CONDITION, classes, iterations=5)
    assert sound.shape == (frames * HOP, 1)
    repeated = np.resize(audio.mean(1), frames * HOP)[None, :, None]
    roll = jax.nn.one_hot(classes, CLASSES)[None]
    magnitudes = MODEL.system.synthesize(1.0, repeated, CONDITION, roll)[0]
    padded = np.pad(magnitudes, ((0, -frames % synthesis.STEP), (0, 0)))
    np.testing.assert_allclose(sound[:, 0], griffin_lim(padded, 64, HOP, 5)[: frames * HOP], atol=1e-3)


@pytest.mark.parametrize("frames", [300, 384, 385, 700, 1234])
def test_pieces_of_a_long_synthesis_are_joined_smoothly(monkeypatch, frames):
    """The result has the length, and nearly the magnitudes and powers, of a synthesis in one piece."""
    classes = np.repeat(RNG.integers(4, 28, frames), 20)[:frames]
    audio = np.ones((50, 1), np.float32)
    in_one_piece = synthesize(MODEL, audio, CONDITION, classes, iterations=30)[:, 0]
    monkeypatch.setattr(synthesis, "PIECE", 25.0)  # 256 frames
    in_pieces = synthesize(MODEL, audio, CONDITION, classes, iterations=30)[:, 0]
    assert in_pieces.shape == in_one_piece.shape == (frames * HOP,)
    expected, joined = (np.abs(stft(signal, 64, HOP)) for signal in (in_one_piece, in_pieces))
    assert np.linalg.norm(joined - expected) < 0.35 * np.linalg.norm(expected)
    power = np.square(joined).sum(-1) / np.square(expected).sum(-1).mean()
    assert power.max() < 2.5


def test_pieces_are_joined_in_quiet_frames(monkeypatch):
    """Each sample comes from one piece, except for short fades in the quietest frames of the overlaps."""
    monkeypatch.setattr(synthesis, "PIECE", 25.0)
    overlap, piece, indices = 10, 2 * synthesis.STEP + 20, iter(range(3))

    def positions(magnitude, *_):
        """The position of each sample in the complete signal plus 100,000 times the index of the piece."""
        index = next(indices)
        start = index * (piece - overlap) * HOP
        return np.arange(start, start + len(magnitude) * HOP, dtype=np.float32) + 100_000 * index

    monkeypatch.setattr(synthesis, "_griffin_lim", positions)
    magnitudes, quiet = np.ones((600, 33), np.float32), [piece - overlap + 3, 2 * (piece - overlap) + 7]
    magnitudes[quiet] = 0.1
    audio = synthesis._with_phases(magnitudes, MODEL.system, 1, 0.0)
    position = np.arange(600 * HOP)
    index = np.searchsorted(np.array(quiet) * HOP, position, side="right")
    fading = np.isin(position // HOP, quiet)
    np.testing.assert_array_equal(audio[~fading], (position + 100_000 * index)[~fading])


def test_systems_without_the_task_and_empty_inputs_are_refused():
    only_separates = dataclasses.replace(MODEL.system, tasks=("separate",))
    model = Model(only_separates, MODEL.variables)  # pyright: ignore[reportArgumentType]
    silence, classes = np.zeros((64, 1), np.float32), np.zeros(2)
    with pytest.raises(ValueError, match=r"this model \(Frames\) cannot transcribe, it can separate: give a --model"):
        transcribe_blocks(model, [silence], CONDITION)
    with pytest.raises(ValueError, match="cannot separate by score"):
        separate_by_score(model, [silence], 1, CONDITION, classes)
    with pytest.raises(ValueError, match="cannot synthesize"):
        synthesize(model, silence, CONDITION, classes)
    with pytest.raises(ValueError, match=re.escape("there are 64 samples and 0 frames of notes")):
        synthesize(MODEL, silence, CONDITION, classes[:0])
    no_channels = [np.zeros((64, 0), np.float32)]
    with pytest.raises(ValueError, match="the signal to transcribe has no channels"):
        list(transcribe_blocks(MODEL, no_channels, CONDITION))
    with pytest.raises(ValueError, match="the signal to separate has no channels"):
        list(separate_by_score(MODEL, no_channels, 0, CONDITION, classes))
