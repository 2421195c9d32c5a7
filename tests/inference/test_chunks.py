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


def same(chunks: np.ndarray) -> np.ndarray:
    return chunks[:, None]


def through(signal: np.ndarray, plan: ChunkPlan, group: int, process, size: int = 10**6) -> np.ndarray:
    """A signal through the chunks, cut into blocks of `size`."""
    blocks = (signal[start : start + size] for start in range(0, len(signal), size))
    return np.concatenate(list(over_chunks(blocks, plan, group, process)), axis=1)


def in_memory(signal: np.ndarray, plan: ChunkPlan, process) -> np.ndarray:
    """The same plan over the whole signal at once: each chunk weighted and added at its place."""
    padded = np.pad(signal, ((2 * plan.chunk, 2 * plan.chunk), (0, 0)))
    out = np.zeros_like(padded)
    for start in plan.starts(len(signal)):
        place = slice(start + 2 * plan.chunk, start + 3 * plan.chunk)
        out[place] += process(padded[None, place])[0, 0] * plan.weights()[:, None]
    return out[None, 2 * plan.chunk :][:, : len(signal)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_identity_gives_the_signal_back(plan, length, channels):
    signal = noise(length, channels)
    out = through(signal, plan, 4, same)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, signal[None], atol=1e-6)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("group", "size"), [(1, 1), (3, 7), (2, 64), (5, 1000)])
def test_streaming_is_the_plan_in_memory_to_the_bit(plan, length, group, size):
    """Whatever the blocks, and however many chunks pass together."""
    signal = noise(length, 2)

    def process(chunks):
        return (np.tanh(chunks) * np.linspace(0.3, 1.7, plan.chunk, dtype=np.float32)[:, None])[:, None]

    np.testing.assert_array_equal(through(signal, plan, group, process, size), in_memory(signal, plan, process))


def test_no_more_is_held_than_a_group_needs():
    """Blocks are asked for only when a chunk needs them."""
    plan, asked, given = ChunkPlan(64, 8, 8), 0, 0

    def blocks():
        nonlocal asked
        for _ in range(100):
            asked += 10
            yield np.ones((10, 1), np.float32)

    for out in over_chunks(blocks(), plan, 2, same):
        given += out.shape[1]
        assert asked - given <= 2 * plan.hop + plan.chunk + 10
    assert given == asked == 1000


def test_stems_and_channels_keep_their_places():
    signal = noise(300, 2)
    out = through(signal, default_plan(64), 3, lambda chunks: np.stack([chunks, 2 * chunks, -chunks], axis=1))
    np.testing.assert_allclose(out, signal[None] * np.array([1, 2, -1])[:, None, None], atol=1e-5)


def test_context_is_thrown_away_and_fades_are_straight():
    plan, signal = ChunkPlan(64, 8, 8), noise(500, 1)

    def bad_at_the_ends(chunks):
        chunks = chunks.copy()
        chunks[:, :8] = chunks[:, -8:] = 1e6
        return chunks[:, None]

    np.testing.assert_allclose(through(signal, plan, 4, bad_at_the_ends)[0], signal, atol=1e-6)
    kept = plan.weights()[8:-8]
    np.testing.assert_allclose(np.diff(kept[:8]), 1 / 8, atol=1e-6)
    np.testing.assert_array_equal(kept[8:-8], 1.0)
    np.testing.assert_array_equal(kept, kept[::-1])


def test_neighbours_that_disagree_meet_without_a_seam():
    """Each chunk says its own number; from one sample to the next the output moves by no more than the fade's slope."""
    plan, numbers = ChunkPlan(64, 8, 16), iter(range(100))
    silence = np.zeros((500, 1), np.float32)
    out = through(silence, plan, 1, lambda chunks: np.full((1, 1, 64, 1), float(next(numbers))))
    assert np.abs(np.diff(out[0, :, 0])).max() <= 1 / 16 + 1e-5
    assert out.max() > 10


def test_process_sees_one_shape_and_silence_beyond_the_signal():
    seen = []

    def process(chunks):
        seen.append(chunks.copy())
        return chunks[:, None]

    through(np.ones((100, 2), np.float32), default_plan(64), 3, process)
    assert {chunks.shape for chunks in seen} == {(3, 64, 2)}
    np.testing.assert_array_equal(seen[0][0, :, 0], [0.0] * 16 + [1.0] * 48)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, ChunkPlan(64, 8, 8)),
        (8, ChunkPlan(64, 8, 8)),
        (0, ChunkPlan(64, 0, 8)),
        (23, ChunkPlan(64, 23, 3)),
        (30, ChunkPlan(64, 30, 0)),
    ],
)
def test_the_fade_is_an_eighth_or_a_sixth_of_what_context_leaves(context, expected):
    assert default_plan(64, context) == expected


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
        through(np.zeros((100, 0), np.float32), default_plan(64), 3, same)
