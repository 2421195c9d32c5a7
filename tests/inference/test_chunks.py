"""Chunks: their weights add up to one, and what goes through unchanged comes out unchanged."""

import numpy as np
import pytest

from qsep_jax.inference.chunks import ChunkPlan, default_plan, over_chunks

PLANS = [
    default_plan(64),
    default_plan(100),
    ChunkPlan(64, 0, 0),
    ChunkPlan(64, 16, 0),
    ChunkPlan(64, 0, 32),
    ChunkPlan(50, 7, 11),
    ChunkPlan(9, 4, 0),
]
LENGTHS = [1, 2, 7, 48, 63, 64, 65, 127, 500]


def noise(length: int, channels: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((length, channels)).astype(np.float32)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_weights_add_up_to_one(plan, length):
    weights, starts = plan.weights(), plan.starts(length)
    assert weights.shape == (plan.chunk,)
    total = np.zeros(length + 2 * plan.chunk + plan.hop)
    for start in starts:
        total[start + plan.chunk : start + 2 * plan.chunk] += weights
    np.testing.assert_allclose(total[plan.chunk :][:length], 1.0, atol=1e-6)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_identity_gives_the_signal_back(plan, length, channels):
    signal = noise(length, channels)
    out = over_chunks(signal, plan, 4, lambda chunks: chunks[:, None])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, signal[None], atol=1e-6)


def test_stems_and_channels_keep_their_places():
    signal = noise(300, 2)
    out = over_chunks(signal, default_plan(64), 3, lambda chunks: np.stack([chunks, 2 * chunks, -chunks], axis=1))
    np.testing.assert_allclose(out, signal[None] * np.array([1, 2, -1])[:, None, None], atol=1e-5)


def test_context_is_thrown_away_and_fades_are_straight():
    plan, signal = ChunkPlan(64, 8, 8), noise(500, 1)

    def bad_at_the_ends(chunks):
        chunks = chunks.copy()
        chunks[:, :8] = chunks[:, -8:] = 1e6
        return chunks[:, None]

    np.testing.assert_allclose(over_chunks(signal, plan, 4, bad_at_the_ends)[0], signal, atol=1e-6)
    kept = plan.weights()[8:-8]
    np.testing.assert_allclose(np.diff(kept[:8]), 1 / 8, atol=1e-6)
    np.testing.assert_array_equal(kept[8:-8], 1.0)
    np.testing.assert_array_equal(kept, kept[::-1])


def test_neighbours_that_disagree_meet_without_a_seam():
    """Each chunk says its own number; from one sample to the next the output moves by no more than the fade's slope."""
    plan, numbers = ChunkPlan(64, 8, 16), iter(range(100))
    out = over_chunks(np.zeros((500, 1), np.float32), plan, 1, lambda chunks: np.full((1, 1, 64), float(next(numbers))))
    assert np.abs(np.diff(out[0, :, 0])).max() <= 1 / 16 + 1e-5
    assert out.max() > 10


def test_process_sees_one_shape_and_silence_beyond_the_signal():
    seen = []

    def process(chunks):
        seen.append(chunks.copy())
        return chunks[:, None]

    over_chunks(np.ones((100, 2), np.float32), default_plan(64), 3, process)
    assert {chunks.shape for chunks in seen} == {(3, 64)}
    np.testing.assert_array_equal(seen[0][0], [0.0] * 16 + [1.0] * 48)


@pytest.mark.parametrize(
    ("chunk", "context", "fade"), [(64, 32, 0), (64, 0, 33), (64, 20, 13), (64, -1, 0), (64, 0, -1)]
)
def test_refuses_plans_that_keep_nothing(chunk, context, fade):
    with pytest.raises(
        ValueError, match=f"chunks of {chunk} samples cannot give up {context} at both ends and fade over"
    ):
        ChunkPlan(chunk, context, fade)


def test_refuses_a_signal_without_channels():
    with pytest.raises(ValueError, match="no channels"):
        over_chunks(np.zeros((100, 0), np.float32), default_plan(64), 3, lambda chunks: chunks[:, None])
