"""Chunked separation: conditions per chunk, a choice of stems, and groups of a fixed number of rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.inference import rows, separation
from qsep_jax.inference.chunks import default_plan
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, rows_of
from qsep_jax.inference.separation import separate, separate_blocks

CHUNK = 64
PLAN = default_plan(CHUNK)


@dataclasses.dataclass(frozen=True)
class Gains:
    """A substitute for a system of three stems: the mixture times the condition, times one, two and three."""

    chunk_samples: int = CHUNK
    context_samples: int = CHUNK // 8
    input_channels: int = 1
    sample_rate: int = 8000

    def separate(self, variables, mixture, condition):
        stems = mixture[:, None] * jnp.array([1.0, 2.0, 3.0])[None, :, None, None]
        return stems * variables * (condition["gain"][:, :, None, None] if condition else 1.0)


MODEL = Model(Gains(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]


def gain(value: float):
    return {"gain": np.full((1, 1), value, np.float32)}


def noise(length: int, channels: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((length, channels)).astype(np.float32)


def expected(signal: np.ndarray, gain_at) -> np.ndarray:
    """The reference implementation: each chunk is multiplied by its gain, weighted and added at its position."""
    out = np.zeros((len(signal) + 4 * CHUNK, signal.shape[1]), np.float32)
    padded = np.pad(signal, ((2 * CHUNK, 2 * CHUNK), (0, 0)))
    for start in PLAN.starts(len(signal)):
        span = slice(start + 2 * CHUNK, start + 3 * CHUNK)
        out[span] += gain_at(start) * padded[span] * PLAN.weights()[:, None]
    return out[2 * CHUNK : -2 * CHUNK]


@pytest.mark.parametrize(("length", "channels"), [(1, 1), (63, 2), (500, 1), (2_000, 3), (700, 11)])
def test_each_chunk_has_its_own_condition(length, channels):
    signal, starts = noise(length, channels), []

    def condition_at(start):
        starts.append(start)
        return gain(1 + abs(start) / 100)

    blocks = [signal[first : first + 37] for first in range(0, length, 37)]
    stems = np.concatenate(list(separate_blocks(MODEL, blocks, channels, [condition_at])), axis=1)
    first_stem = expected(signal, lambda start: 1 + abs(start) / 100)
    factors = np.array([1.0, 2.0, 3.0])[:, None, None]
    np.testing.assert_allclose(stems, first_stem[None] * factors, rtol=1e-4, atol=1e-4)
    assert starts == PLAN.starts(length)  # in order, each once, and none for the silence after the mixture


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_conditions_per_chunk_equal_a_constant_condition(channels):
    signal = noise(1_000, channels)
    constant, per_chunk = (separate(MODEL, signal, condition) for condition in (gain(0.7), lambda start: gain(0.7)))
    np.testing.assert_array_equal(constant, per_chunk)


def test_constant_conditions_and_conditions_per_chunk_can_be_combined():
    signal = noise(300, 1)
    conditions = [gain(0.5), lambda start: gain(float(start >= 0))]
    stems = np.concatenate(list(separate_blocks(MODEL, [signal], 1, conditions)), axis=1)
    assert stems.shape == (6, 300, 1)
    np.testing.assert_allclose(stems[0], 0.5 * signal, atol=1e-5)
    np.testing.assert_allclose(stems[3], expected(signal, lambda start: float(start >= 0)), atol=1e-5)


@pytest.mark.parametrize("wiener", [0, 1])
def test_absent_stems(wiener):
    """They are removed before the Wiener filter, which assigns their share to the residual."""
    signal = noise(500, 2)
    all_stems, one_stem = (
        np.concatenate(list(separate_blocks(MODEL, [signal], 2, [()], wiener, present)), 1) for present in ((), (1,))
    )
    assert [len(all_stems), len(one_stem)] == [3, 1]
    if wiener:
        silenced = dataclasses.replace(MODEL, system=OnlySecond())
        expected = np.concatenate(list(separate_blocks(silenced, [signal], 2, [()], wiener)), 1)
        np.testing.assert_allclose(one_stem[0], expected[1], atol=1e-4)
        assert not np.allclose(one_stem[0], all_stems[1], atol=1e-2)
    else:
        np.testing.assert_array_equal(one_stem[0], all_stems[1])


class OnlySecond(Gains):
    """`Gains` with silent first and third stems."""

    def separate(self, variables, mixture, condition):
        return super().separate(variables, mixture, condition) * jnp.array([0.0, 1.0, 0.0])[None, :, None, None]


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_groups_have_the_same_size_for_any_number_of_rows(count):
    shapes, signals = set(), noise(count * CHUNK, 1).reshape(count, CHUNK)

    def run(rows, condition):
        shapes.add(rows.shape)
        return rows * condition["gain"]

    per_row = {"gain": np.arange(1.0, count + 1, dtype=np.float32)[:, None]}
    np.testing.assert_allclose(in_rows(run, signals, per_row), signals * per_row["gain"], rtol=1e-6)
    np.testing.assert_allclose(in_rows(run, signals, gain(2.0)), 2 * signals, rtol=1e-6)
    np.testing.assert_allclose(in_rows(lambda rows, _: run(rows, gain(1.0)), signals, ()), signals, rtol=1e-6)
    assert shapes == {(rows_of(CHUNK)[0], CHUNK)}


# Gain from each input channel (row) to each output channel (column) of a system with two input channels.
CROSS = np.array([[0.25, 2.0], [1.0, -0.5]], np.float32)


@dataclasses.dataclass(frozen=True)
class Crossed(Gains):
    """`Gains` of two channels that are separated together and mixed by `CROSS`."""

    input_channels: int = 2

    def separate(self, variables, mixture, condition):
        assert mixture.shape[1:] == (CHUNK, 2)
        return super().separate(variables, mixture @ CROSS, condition)


STEREO = Model(Crossed(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]
THREE = np.array([1.0, 2.0, 3.0])[:, None, None]


def crossed(signal: np.ndarray) -> np.ndarray:
    """The first stem of `Crossed`: unless the signal is stereo, each channel is repeated and the outputs averaged."""
    return signal @ CROSS if signal.shape[1] == 2 else signal * CROSS.sum() / 2


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 500, 2_000])
def test_channels_that_are_separated_together(length, channels):
    signal = noise(length, channels)
    stems = separate(STEREO, signal, gain(0.7))
    assert stems.dtype == np.float32
    np.testing.assert_allclose(stems, 0.7 * THREE * crossed(signal)[None], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_that_are_separated_together_share_the_condition_of_each_chunk(channels):
    signal, starts = noise(1_500, channels), []

    def condition_at(start):
        starts.append(start)
        return gain(1 + abs(start) / 100)

    stems = separate(STEREO, signal, condition_at)
    first_stem = expected(crossed(signal), lambda start: 1 + abs(start) / 100)
    np.testing.assert_allclose(stems, THREE * first_stem[None], rtol=1e-4, atol=1e-4)
    assert starts == PLAN.starts(1_500)


@pytest.mark.parametrize("wiener", [0, 1])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_block_lengths_do_not_matter(channels, wiener):
    signal, results = noise(700, channels), []
    for size in (700, 1, 37, 300):
        blocks = [signal[first : first + size] for first in range(0, len(signal), size)]
        results.append(np.concatenate(list(separate_blocks(STEREO, blocks, channels, [()], wiener)), axis=1))
    assert results[0].shape == (3, 700, channels)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_one_stem_of_channels_that_are_separated_together():
    signal = noise(300, 2)
    (stems,) = separate_blocks(STEREO, [signal], 2, [()], stems=(2,))
    np.testing.assert_allclose(stems, 3 * crossed(signal)[None], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_groups_of_long_chunks_have_fewer_rows(channels, monkeypatch):
    """On one device; several devices have at least one row each. As many chunks are in memory as a group has rows."""
    signal, shapes, groups = noise(1_000, channels), [], []
    real, over_chunks = separation._separate, separation.over_chunks

    def recording_separate(system, variables, stems, rows, condition):
        shapes.append(rows.shape)
        return real(system, variables, stems, rows, condition)

    def recording_over_chunks(blocks, plan, group, process):
        groups.append(group)
        return over_chunks(blocks, plan, group, process)

    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(separation, "_separate", recording_separate)
    monkeypatch.setattr(separation, "over_chunks", recording_over_chunks)
    stems = {}
    for most, count in ((8 * CHUNK, 8), (3 * CHUNK + 1, 3), (CHUNK - 1, 1)):
        monkeypatch.setattr(rows, "MOST_SAMPLES", most)
        stems[count] = separate(STEREO, signal, ())
        assert set(shapes) == {(count, CHUNK, 2)}
        shapes.clear()
    assert groups == [8, 3, 1]
    np.testing.assert_array_equal(stems[8], stems[3])
    np.testing.assert_array_equal(stems[8], stems[1])


def test_rows_of_stereo_signals():
    signals = noise(5 * CHUNK, 2).reshape(5, CHUNK, 2)
    swapped = in_rows(lambda rows, condition: rows[..., ::-1] * condition["gain"][..., None], signals, gain(2.0))
    np.testing.assert_allclose(swapped, 2 * signals[..., ::-1], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_result_that_is_not_finite_is_refused_with_its_time(bad):
    mixture = np.ones((8000, 1), np.float32)
    mixture[4000:4010] = bad  # the network passes it on
    with pytest.raises(ValueError, match=r"output is NaN or infinite at 0\.(4\d\d|500) s: .*use another checkpoint"):
        separate(MODEL, mixture, {"gain": jnp.ones((1, 1))})
