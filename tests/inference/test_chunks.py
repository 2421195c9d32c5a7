"""Chunked processing: the weights add up to one, and the result does not depend on blocks and groups."""

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


def identity(chunks: np.ndarray) -> np.ndarray:
    return chunks[:, None]


def process_in_blocks(signal: np.ndarray, plan: ChunkPlan, group: int, process, size: int = 10**6) -> np.ndarray:
    """The result of `over_chunks` for a signal that is cut into blocks of `size` samples."""
    blocks = (signal[start : start + size] for start in range(0, len(signal), size))
    return np.concatenate(list(over_chunks(blocks, plan, group, process)), axis=1)


def process_in_memory(signal: np.ndarray, plan: ChunkPlan, process) -> np.ndarray:
    """The reference implementation: each chunk of the complete signal is weighted and added at its position."""
    padded = np.pad(signal, ((2 * plan.chunk, 2 * plan.chunk), (0, 0)))
    out = np.zeros_like(padded)
    for start in plan.starts(len(signal)):
        span = slice(start + 2 * plan.chunk, start + 3 * plan.chunk)
        out[span] += process(padded[None, span])[0, 0] * plan.weights()[:, None]
    return out[None, 2 * plan.chunk :][:, : len(signal)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_identity_returns_the_signal(plan, length, channels):
    signal = noise(length, channels)
    out = process_in_blocks(signal, plan, 4, identity)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, signal[None], atol=1e-6)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("group", "size"), [(1, 1), (3, 7), (2, 64), (5, 1000)])
def test_streaming_equals_processing_in_memory_to_the_bit(plan, length, group, size):
    """For any length of the blocks and any number of chunks in a group."""
    signal = noise(length, 2)

    def process(chunks):
        return (np.tanh(chunks) * np.linspace(0.3, 1.7, plan.chunk, dtype=np.float32)[:, None])[:, None]

    streamed = process_in_blocks(signal, plan, group, process, size)
    np.testing.assert_array_equal(streamed, process_in_memory(signal, plan, process))


def test_memory_is_bounded_by_a_group():
    """Blocks are read only when a chunk needs them."""
    plan, read, returned = ChunkPlan(64, 8, 8), 0, 0

    def blocks():
        nonlocal read
        for _ in range(100):
            read += 10
            yield np.ones((10, 1), np.float32)

    for out in over_chunks(blocks(), plan, 2, identity):
        returned += out.shape[1]
        assert read - returned <= 2 * plan.hop + plan.chunk + 10
    assert returned == read == 1000


def test_stems_and_channels_keep_their_order():
    signal = noise(300, 2)
    plan = default_plan(64)
    out = process_in_blocks(signal, plan, 3, lambda chunks: np.stack([chunks, 2 * chunks, -chunks], axis=1))
    np.testing.assert_allclose(out, signal[None] * np.array([1, 2, -1])[:, None, None], atol=1e-5)


def test_context_is_discarded_and_fades_are_linear():
    plan, signal = ChunkPlan(64, 8, 8), noise(500, 1)

    def wrong_at_the_ends(chunks):
        chunks = chunks.copy()
        chunks[:, :8] = chunks[:, -8:] = 1e6
        return chunks[:, None]

    np.testing.assert_allclose(process_in_blocks(signal, plan, 4, wrong_at_the_ends)[0], signal, atol=1e-6)
    weights = plan.weights()[8:-8]
    np.testing.assert_allclose(np.diff(weights[:8]), 1 / 8, atol=1e-6)
    np.testing.assert_array_equal(weights[8:-8], 1.0)
    np.testing.assert_array_equal(weights, weights[::-1])


def test_chunks_that_disagree_are_joined_without_a_seam():
    """Each chunk is filled with its index; from sample to sample the output changes by at most the fade's slope."""
    plan, indices = ChunkPlan(64, 8, 16), iter(range(100))
    silence = np.zeros((500, 1), np.float32)
    out = process_in_blocks(silence, plan, 1, lambda chunks: np.full((1, 1, 64, 1), float(next(indices))))
    assert np.abs(np.diff(out[0, :, 0])).max() <= 1 / 16 + 1e-5
    assert out.max() > 10


def test_process_gets_one_shape_and_silence_beyond_the_signal():
    groups = []

    def process(chunks):
        groups.append(chunks.copy())
        return chunks[:, None]

    process_in_blocks(np.ones((100, 2), np.float32), default_plan(64), 3, process)
    assert {chunks.shape for chunks in groups} == {(3, 64, 2)}
    np.testing.assert_array_equal(groups[0][0, :, 0], [0.0] * 16 + [1.0] * 48)


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
def test_the_fade_is_an_eighth_of_the_chunk_or_a_sixth_without_context(context, expected):
    assert default_plan(64, context) == expected


@pytest.mark.parametrize(
    ("chunk", "context", "fade"), [(64, 32, 0), (64, 0, 33), (64, 20, 13), (64, -1, 0), (64, 0, -1)]
)
def test_plans_that_leave_no_sample_are_refused(chunk, context, fade):
    with pytest.raises(
        ValueError,
        match=f"chunks of {chunk} samples are too short for a context of {context} samples at both ends and a fade",
    ):
        ChunkPlan(chunk, context, fade)


def test_a_signal_without_channels_is_refused():
    with pytest.raises(ValueError, match="has no channels"):
        process_in_blocks(np.zeros((100, 0), np.float32), default_plan(64), 3, identity)
