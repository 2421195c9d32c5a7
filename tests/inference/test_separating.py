"""Separation chunk by chunk: a condition for each, stems that are there, and as many rows at a time for any number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.inference import separation
from qsep_jax.inference.chunks import default_plan
from qsep_jax.inference.model import Model
from qsep_jax.inference.rows import in_rows, rows_of
from qsep_jax.inference.separation import separate, separate_blocks

CHUNK = 64
PLAN = default_plan(CHUNK)


@dataclasses.dataclass(frozen=True)
class Gains:
    """Stands in for a system of three stems: the mixture times the condition, and times two and three of it."""

    chunk_samples: int = CHUNK
    context_samples: int = CHUNK // 8
    input_channels: int = 1

    def separate(self, variables, mixture, condition):
        stems = mixture[:, None] * jnp.array([1.0, 2.0, 3.0])[None, :, None, None]
        return stems * variables * (condition["gain"][:, :, None, None] if condition else 1.0)


MODEL = Model(Gains(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]


def gain(value: float):
    return {"gain": np.full((1, 1), value, np.float32)}


def noise(length: int, channels: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((length, channels)).astype(np.float32)


def expected(signal: np.ndarray, gain_at) -> np.ndarray:
    """Chunks weighted and added at their places, each times its gain."""
    out = np.zeros((len(signal) + 4 * CHUNK, signal.shape[1]), np.float32)
    padded = np.pad(signal, ((2 * CHUNK, 2 * CHUNK), (0, 0)))
    for start in PLAN.starts(len(signal)):
        place = slice(start + 2 * CHUNK, start + 3 * CHUNK)
        out[place] += gain_at(start) * padded[place] * PLAN.weights()[:, None]
    return out[2 * CHUNK : -2 * CHUNK]


@pytest.mark.parametrize(("length", "channels"), [(1, 1), (63, 2), (500, 1), (2_000, 3), (700, 11)])
def test_each_chunk_has_its_own_condition(length, channels):
    signal, asked = noise(length, channels), []

    def at(start):
        asked.append(start)
        return gain(1 + abs(start) / 100)

    blocks = [signal[first : first + 37] for first in range(0, length, 37)]
    found = np.concatenate(list(separate_blocks(MODEL, blocks, channels, [at])), axis=1)
    one = expected(signal, lambda start: 1 + abs(start) / 100)
    np.testing.assert_allclose(found, one[None] * np.array([1.0, 2.0, 3.0])[:, None, None], rtol=1e-4, atol=1e-4)
    assert asked == PLAN.starts(length)  # in order, once, and none for the silence after the mixture


@pytest.mark.parametrize("channels", [1, 3])
def test_a_condition_for_each_chunk_that_is_always_the_same(channels):
    signal = noise(1_000, channels)
    constant, varying = (separate(MODEL, signal, told) for told in (gain(0.7), lambda start: gain(0.7)))
    np.testing.assert_array_equal(constant, varying)


def test_both_kinds_of_conditions_beside_each_other():
    signal = noise(300, 1)
    told = [gain(0.5), lambda start: gain(float(start >= 0))]
    found = np.concatenate(list(separate_blocks(MODEL, [signal], 1, told)), axis=1)
    assert found.shape == (6, 300, 1)
    np.testing.assert_allclose(found[0], 0.5 * signal, atol=1e-5)
    np.testing.assert_allclose(found[3], expected(signal, lambda start: float(start >= 0)), atol=1e-5)


@pytest.mark.parametrize("wiener", [0, 1])
def test_stems_that_are_not_there(wiener):
    """They are left out before the filter, which gives what they had to the residual."""
    signal = noise(500, 2)
    stems = [
        np.concatenate(list(separate_blocks(MODEL, [signal], 2, [()], wiener, chosen)), 1) for chosen in ((), (1,))
    ]
    assert [len(found) for found in stems] == [3, 1]
    if wiener:
        silenced = dataclasses.replace(MODEL, system=OnlySecond())
        expected = np.concatenate(list(separate_blocks(silenced, [signal], 2, [()], wiener)), 1)
        np.testing.assert_allclose(stems[1][0], expected[1], atol=1e-4)
        assert not np.allclose(stems[1][0], stems[0][1], atol=1e-2)
    else:
        np.testing.assert_array_equal(stems[1][0], stems[0][1])


class OnlySecond(Gains):
    def separate(self, variables, mixture, condition):
        return super().separate(variables, mixture, condition) * jnp.array([0.0, 1.0, 0.0])[None, :, None, None]


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_as_many_rows_at_a_time_for_any_number(count):
    seen, signals = set(), noise(count * CHUNK, 1).reshape(count, CHUNK)

    def run(rows, condition):
        seen.add(rows.shape)
        return rows * condition["gain"]

    each = {"gain": np.arange(1.0, count + 1, dtype=np.float32)[:, None]}
    np.testing.assert_allclose(in_rows(run, signals, each), signals * each["gain"], rtol=1e-6)
    np.testing.assert_allclose(in_rows(run, signals, gain(2.0)), 2 * signals, rtol=1e-6)
    np.testing.assert_allclose(in_rows(lambda rows, _: run(rows, gain(1.0)), signals, ()), signals, rtol=1e-6)
    assert seen == {(rows_of(CHUNK)[0], CHUNK)}


# What of each channel that comes in is in each that goes out, of a system that hears two.
CROSS = np.array([[0.25, 2.0], [1.0, -0.5]], np.float32)


@dataclasses.dataclass(frozen=True)
class Crossed(Gains):
    """Hears two channels together."""

    input_channels: int = 2

    def separate(self, variables, mixture, condition):
        assert mixture.shape[1:] == (CHUNK, 2)
        return super().separate(variables, mixture @ CROSS, condition)


STEREO = Model(Crossed(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]
THREE = np.array([1.0, 2.0, 3.0])[:, None, None]


def heard(signal: np.ndarray) -> np.ndarray:
    """What `Crossed` makes of a signal: of one that is not stereo each channel as if both were that, their mean."""
    return signal @ CROSS if signal.shape[1] == 2 else signal * CROSS.sum() / 2


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 500, 2_000])
def test_channels_that_are_heard_together(length, channels):
    signal = noise(length, channels)
    found = separate(STEREO, signal, gain(0.7))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.7 * THREE * heard(signal)[None], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_chunk_of_channels_that_are_heard_together_has_one_condition(channels):
    signal, asked = noise(1_500, channels), []

    def at(start):
        asked.append(start)
        return gain(1 + abs(start) / 100)

    found = separate(STEREO, signal, at)
    one = expected(heard(signal), lambda start: 1 + abs(start) / 100)
    np.testing.assert_allclose(found, THREE * one[None], rtol=1e-4, atol=1e-4)
    assert asked == PLAN.starts(1_500)


@pytest.mark.parametrize("wiener", [0, 1])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_however_the_mixture_is_cut(channels, wiener):
    signal, found = noise(700, channels), []
    for cut in (700, 1, 37, 300):
        blocks = [signal[first : first + cut] for first in range(0, len(signal), cut)]
        found.append(np.concatenate(list(separate_blocks(STEREO, blocks, channels, [()], wiener)), axis=1))
    assert found[0].shape == (3, 700, channels)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_stem_of_channels_that_are_heard_together():
    signal = noise(300, 2)
    (found,) = separate_blocks(STEREO, [signal], 2, [()], stems=(2,))
    np.testing.assert_allclose(found, 3 * heard(signal)[None], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_fewer_rows_of_long_chunks(channels, monkeypatch):
    """On one device; several have at least one row each. No more chunks are held than pass at a time."""
    signal, seen, groups = noise(1_000, channels), [], []
    real, over_chunks = separation._separate, separation.over_chunks

    def spied(system, variables, stems, rows, condition):
        seen.append(rows.shape)
        return real(system, variables, stems, rows, condition)

    def grouped(blocks, plan, group, process):
        groups.append(group)
        return over_chunks(blocks, plan, group, process)

    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(separation, "_separate", spied)
    monkeypatch.setattr(separation, "over_chunks", grouped)
    found = {}
    for most, rows in ((8 * CHUNK, 8), (3 * CHUNK + 1, 3), (CHUNK - 1, 1)):
        monkeypatch.setattr(separation, "LONGEST", most)
        found[rows] = separate(STEREO, signal, ())
        assert set(seen) == {(rows, CHUNK, 2)}
        seen.clear()
    assert groups == [8, 3, 1]
    np.testing.assert_array_equal(found[8], found[3])
    np.testing.assert_array_equal(found[8], found[1])


def test_rows_of_stereo_signals():
    signals = noise(5 * CHUNK, 2).reshape(5, CHUNK, 2)
    found = in_rows(lambda rows, condition: rows[..., ::-1] * condition["gain"][..., None], signals, gain(2.0))
    np.testing.assert_allclose(found, 2 * signals[..., ::-1], rtol=1e-6)
