"""Notes and sounds chunk by chunk: as if in one piece, however the mixture comes, and as long as it was."""

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
    """Stands in for a system: everything is said of each frame by itself."""

    tasks: tuple[str, ...] = ("transcribe", "separate_by_score", "synthesize")
    sample_rate: int = 320
    hop_length: int = HOP
    window_length: int = 64
    frames: int = 16

    @property
    def chunk_samples(self) -> int:
        return self.frames * self.hop_length

    def transcribe(self, variables, mixture, condition):
        """The class is the frame's mean, rounded: soft, so that cross-fades would show."""
        means = mixture[..., 0].reshape(len(mixture), -1, HOP).mean(-1) * condition
        return jax.nn.softmax(-jnp.abs(means[..., None] - jnp.arange(CLASSES)[None, None]) * variables)

    def separate_by_score(self, variables, mixture, condition, roll):
        """Every sample times the class of its frame."""
        levels = jnp.repeat(roll.argmax(-1), HOP, axis=1)
        return (mixture[..., 0] * levels * condition)[:, None, :, None]

    def synthesize(self, variables, mixture, condition, roll):
        """The frame's level in the bin that the class names."""
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
def test_transcription_is_that_of_the_whole_however_it_comes(length, size):
    signal = RNG.uniform(0, 88, (length, 2)).astype(np.float32)
    found = np.concatenate(list(transcribe_blocks(MODEL, in_blocks(signal, size), CONDITION)))
    frames = -(-length // HOP)
    padded = np.pad(signal.mean(1), (0, frames * HOP - length))[None, :, None]
    assert found.shape == (frames, CLASSES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MODEL.system.transcribe(1.0, padded, CONDITION)[0], atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("channels", "size"), [(1, 1), (2, 500), (11, 10**6)])
def test_separation_by_score_is_that_of_the_whole(length, channels, size):
    signal = RNG.uniform(-1, 1, (length, channels)).astype(np.float32)
    classes = RNG.integers(0, CLASSES, length // HOP)
    found = list(separate_by_score(MODEL, in_blocks(signal, size), channels, CONDITION, classes))
    after = np.full(HOP, SILENCE_CLASS)
    expected = signal * np.concatenate([np.repeat(classes, HOP), after])[:length, None]
    assert all(part.shape[0] == 1 for part in found)
    np.testing.assert_allclose(np.concatenate(found, axis=1)[0], expected, atol=1e-4)


def test_memory_is_bounded():
    """Blocks are asked for only when a chunk needs them."""
    asked = 0

    def blocks():
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield np.ones((HOP, 1), np.float32)

    given = 0
    for rows in transcribe_blocks(MODEL, blocks(), CONDITION):
        given += len(rows)
        assert asked - given <= 10 * 16
    assert given == 1000
    asked = given = 0
    for part in separate_by_score(MODEL, blocks(), 1, CONDITION, np.zeros(1000)):
        given += part.shape[1] // HOP
        assert asked - given <= 10 * 16


@pytest.mark.parametrize(("source", "frames"), [(50, 200), (100 * HOP, 40), (31, 1)])
def test_synthesis_repeats_the_source_and_plays_the_notes(source, frames):
    audio = RNG.uniform(0.5, 1, (source, 2)).astype(np.float32)
    classes = RNG.integers(1, 31, frames)
    found = synthesize(MODEL, audio, CONDITION, classes, iterations=5)
    assert found.shape == (frames * HOP, 1)
    repeated = np.resize(audio.mean(1), frames * HOP)[None, :, None]
    roll = jax.nn.one_hot(classes, CLASSES)[None]
    whole = MODEL.system.synthesize(1.0, repeated, CONDITION, roll)[0]
    padded = np.pad(whole, ((0, -frames % synthesis.STEP), (0, 0)))
    np.testing.assert_allclose(found[:, 0], griffin_lim(padded, 64, HOP, 5)[: frames * HOP], atol=1e-3)


@pytest.mark.parametrize("frames", [300, 384, 385, 700, 1234])
def test_pieces_of_a_long_synthesis_meet_smoothly(monkeypatch, frames):
    """As long and as loud, and nearly as right, as in one piece."""
    classes = np.repeat(RNG.integers(4, 28, frames), 20)[:frames]
    audio = np.ones((50, 1), np.float32)
    whole = synthesize(MODEL, audio, CONDITION, classes, iterations=30)[:, 0]
    monkeypatch.setattr(synthesis, "PIECE", 25.0)  # 256 frames
    cut = synthesize(MODEL, audio, CONDITION, classes, iterations=30)[:, 0]
    assert cut.shape == whole.shape == (frames * HOP,)
    wanted, parts = (np.abs(stft(signal, 64, HOP)) for signal in (whole, cut))
    assert np.linalg.norm(parts - wanted) < 0.35 * np.linalg.norm(wanted)
    power = np.square(parts).sum(-1) / np.square(wanted).sum(-1).mean()
    assert power.max() < 2.5


def test_pieces_meet_where_it_is_quiet(monkeypatch):
    """Each sample is that of one piece at its place, but for short fades in the quietest frames that two share."""
    monkeypatch.setattr(synthesis, "PIECE", 25.0)
    shared, piece, numbers = 10, 2 * synthesis.STEP + 20, iter(range(3))

    def numbered(magnitude, *_):
        """Where each sample is in the whole, and 100,000 times the number of the piece."""
        number = next(numbers)
        start = number * (piece - shared) * HOP
        return np.arange(start, start + len(magnitude) * HOP, dtype=np.float32) + 100_000 * number

    monkeypatch.setattr(synthesis, "_griffin_lim", numbered)
    magnitudes, quiet = np.ones((600, 33), np.float32), [piece - shared + 3, 2 * (piece - shared) + 7]
    magnitudes[quiet] = 0.1
    made = synthesis._sound(magnitudes, MODEL.system, 1, 0.0)
    position = np.arange(600 * HOP)
    number = np.searchsorted(np.array(quiet) * HOP, position, side="right")
    fading = np.isin(position // HOP, quiet)
    np.testing.assert_array_equal(made[~fading], (position + 100_000 * number)[~fading])


def test_refuses():
    able = dataclasses.replace(MODEL.system, tasks=("separate",))
    model = Model(able, MODEL.variables)  # pyright: ignore[reportArgumentType]
    silence, classes = np.zeros((64, 1), np.float32), np.zeros(2)
    with pytest.raises(ValueError, match=r"this model \(Frames\) cannot transcribe, it can separate: give a --model"):
        transcribe_blocks(model, [silence], CONDITION)
    with pytest.raises(ValueError, match="cannot separate by score"):
        separate_by_score(model, [silence], 1, CONDITION, classes)
    with pytest.raises(ValueError, match="cannot synthesize"):
        synthesize(model, silence, CONDITION, classes)
    with pytest.raises(ValueError, match=re.escape("64 samples of a source and 0 frames of notes")):
        synthesize(MODEL, silence, CONDITION, classes[:0])
    nothing = [np.zeros((64, 0), np.float32)]
    with pytest.raises(ValueError, match="it has no channels"):
        list(transcribe_blocks(MODEL, nothing, CONDITION))
    with pytest.raises(ValueError, match="it has no channels"):
        list(separate_by_score(MODEL, nothing, 0, CONDITION, classes))
