"""Conditions: windows of a query, interpolation, distance, and the bank of the training tracks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from qsep_jax.inference import conditions
from qsep_jax.inference.bank import Bank, make_bank
from qsep_jax.inference.chunks import plan_of
from qsep_jax.inference.conditions import cosine_distance, encode, iterate, mean, slerp
from qsep_jax.inference.model import Model

LOUD = np.random.default_rng(0).uniform(0.1, 0.5, (40, 2)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Levels:
    """A substitute for a system: the condition of a query is its mean and peak, the estimate is half the input."""

    query_samples: int = 10
    chunk_samples: int = 16
    context_samples: int = 2
    input_channels: int = 1
    sample_rate: int = 8000

    def condition(self, variables, cues):
        query = cues["query"][..., 0]
        return {"mean": query.mean(1, keepdims=True) * variables, "peak": query.max(1, keepdims=True)}

    def separate(self, variables, mixture, condition):
        return 0.5 * mixture[:, None]


MODEL = Model(Levels(), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]


def unit(*values: float):
    return jnp.asarray([values], jnp.float32)


def windows(audio, samples, name="the query", size=10**6):
    blocks = (audio[start : start + size] for start in range(0, len(audio), size))
    return list(conditions.windows(blocks, samples, name))


@pytest.mark.parametrize("size", [1, 3, 10, 19, 100])
def test_windows_are_mixed_down_and_the_last_ends_with_the_signal(size):
    cut_windows = windows(LOUD[:37], 10, size=size)
    mono = LOUD.mean(1, keepdims=True)
    np.testing.assert_allclose(cut_windows, np.stack([mono[0:10], mono[10:20], mono[20:30], mono[27:37]]), atol=1e-7)
    assert cut_windows[0].dtype == np.float32
    assert len(windows(LOUD, 10, size=size)) == 4
    assert len(windows(LOUD, 40, size=size)) == 1


def test_each_chunk_is_conditioned_on_its_own_part_of_the_query():
    """Chunks extend beyond both ends of the query; one in which it is silent gets the condition of the whole query."""
    model = Model(Levels(query_samples=16), jnp.float32(1.0))  # pyright: ignore[reportArgumentType]
    starts = plan_of(model.system).starts(len(LOUD))
    query = LOUD.copy()
    query[max(starts[2], 0) : starts[2] + 16] = 0
    whole = encode(model, query)
    conditions_at = conditions.encode_chunks(model, query, whole)
    padded = np.pad(query, ((16, 16), (0, 0)))
    assert len(starts) > 3
    assert starts[0] < 0
    assert starts[-1] + 16 > len(query)
    for index, start in enumerate(starts):
        part = padded[start + 16 : start + 32]
        expected = whole if index == 2 else encode(model, part)
        np.testing.assert_allclose(conditions_at(start)["mean"], expected["mean"], atol=1e-6)
        np.testing.assert_allclose(conditions_at(start)["peak"], expected["peak"], atol=1e-6)


def test_a_short_query_is_padded_with_a_warning():
    with pytest.warns(UserWarning, match="flute.wav has 7 samples, fewer than a window of 10"):
        (window,) = windows(LOUD[:7], 10, "flute.wav")
    np.testing.assert_allclose(window, np.pad(LOUD[:7].mean(1, keepdims=True), ((0, 3), (0, 0))), atol=1e-7)


def test_silent_windows_are_dropped():
    audio = LOUD.copy()
    audio[10:30] = 0.9e-4
    np.testing.assert_allclose(windows(audio, 10), windows(np.concatenate([LOUD[:10], LOUD[30:]]), 10))


@pytest.mark.parametrize("audio", [np.zeros((40, 2)), np.full((40, 1), 0.9e-4), np.array([[0.5, -0.5]] * 40)])
def test_a_query_without_sound_is_refused(audio):
    with pytest.raises(ValueError, match=r"flute.wav is silent"):
        windows(audio.astype(np.float32), 10, "flute.wav")


def test_a_query_is_the_mean_over_its_windows():
    audio = np.repeat(np.arange(1.0, 13.0, dtype=np.float32), 10)[:, None]  # more windows than a batch has
    encoded = encode(MODEL, audio)
    np.testing.assert_allclose(encoded["mean"], [[6.5]], rtol=1e-6)
    np.testing.assert_allclose(encoded["peak"], [[6.5]], rtol=1e-6)


def test_iteration_separates_and_encodes_again():
    start, audio = {"mean": unit(9.0), "peak": unit(9.0)}, np.ones((40, 1), np.float32)
    assert iterate(MODEL, lambda: [audio], 1, start, 0) is start
    np.testing.assert_allclose(iterate(MODEL, lambda: [audio], 1, start, 1)["mean"], 0.5, rtol=1e-6)


def test_mean_of_conditions():
    np.testing.assert_allclose(mean([{"a": unit(1, 2)}, {"a": unit(3, 6)}, {"a": unit(5, 1)}])["a"], [[3, 3]])


def test_slerp_follows_the_arc():
    a, b = unit(1.0, 0.0), unit(0.0, 1.0)
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 0.5), [[np.sqrt(0.5)] * 2], atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [[np.cos(np.pi / 6), np.sin(np.pi / 6)]], atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [((1, 2), (2, 4)), ((1, 2), (-1, -2)), ((1, 2), (1, 2.00001))])
def test_slerp_of_parallel_vectors_is_linear(a, b):
    a, b = unit(*a), unit(*b)
    np.testing.assert_allclose(slerp(a, b, 0.25), 0.75 * a + 0.25 * b, atol=1e-4)


def test_slerp_interpolates_each_leaf_separately():
    first, second = {"a": unit(1, 0), "b": unit(3, 0, 0)}, {"a": unit(0, 1), "b": unit(0, 0, 3)}
    between = slerp(first, second, 0.5)
    np.testing.assert_allclose([np.linalg.norm(between["a"]), np.linalg.norm(between["b"])], [1, 3], atol=1e-5)


@pytest.mark.parametrize(("b", "distance"), [((2, 0), 0.0), ((0, 3), 1.0), ((-1, 0), 2.0), ((1, 1), 1 - np.sqrt(0.5))])
def test_cosine_distance(b, distance):
    assert cosine_distance(unit(1, 0), unit(*b)) == pytest.approx(distance, abs=1e-6)


def test_cosine_distance_concatenates_leaves_and_allows_zeros():
    assert cosine_distance((unit(1, 0), unit(1)), (unit(1, 0), unit(-1))) == pytest.approx(1.0, abs=1e-6)
    assert cosine_distance(unit(0, 0), unit(1, 0)) == 1.0


BANK = Bank(
    {
        "vocals": {"song a": {"z": unit(1, 0)}, "song/b": {"z": unit(0, 2)}},
        "Schlagzeug, groß": {"song a": {"z": unit(-1, 0.5)}},
    }
)


def test_bank_returns_means_and_nearest_tracks():
    np.testing.assert_allclose(BANK.mean("vocals")["z"], [[0.5, 1.0]])
    assert BANK.nearest("vocals", {"z": unit(0.1, 1)}) == "song/b"
    assert BANK.nearest("vocals", {"z": unit(5, 1)}) == "song a"


@pytest.mark.parametrize(
    "call", [BANK.mean, lambda stem: BANK.nearest(stem, {"z": unit(1, 0)})], ids=["mean", "nearest"]
)
def test_the_error_for_an_unknown_label_lists_the_known_ones(call):
    with pytest.raises(ValueError, match="unknown label 'flute'; this model knows vocals, Schlagzeug, groß"):
        call("flute")


def test_bank_can_be_saved_and_loaded(tmp_path):
    BANK.save(tmp_path / "bank.npz")
    loaded = Bank.load(tmp_path / "bank.npz", {"z": unit(0, 0)})
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]
    assert list(loaded.tracks) == list(BANK.tracks)
    for stem, tracks in BANK.tracks.items():
        assert list(loaded.tracks[stem]) == list(tracks)
        for track, condition in tracks.items():
            np.testing.assert_array_equal(loaded.tracks[stem][track]["z"], condition["z"])


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "text", "other"])
def test_a_damaged_bank_is_refused(tmp_path, damage):
    path = tmp_path / "bank.npz"
    BANK.save(path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        np.savez(path, something=np.zeros(3))
    else:
        middle = content.index(b"NUMPY") + 200
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "flipped": flipped, "text": b"hello"}[damage]
        )
    with pytest.raises(ValueError, match=r"bank.npz cannot be read .* finish its training"):
        Bank.load(path, {"z": unit(0, 0)})


def test_make_bank_averages_per_track_and_skips_silence():
    def tone(level):
        return np.full((10, 1), level, np.float32)

    bank = make_bank(
        MODEL,
        [
            ("vocals", "a", tone(1)),
            ("vocals", "a", tone(3)),
            ("vocals", "b", tone(8)),
            ("vocals", "b", tone(0)),
            ("drums", "a", tone(0)),
        ],
    )
    assert list(bank.tracks) == ["vocals"]
    assert {track: float(condition["mean"][0, 0]) for track, condition in bank.tracks["vocals"].items()} == {
        "a": 2,
        "b": 8,
    }
    # The mean is taken over the excerpts of each track first, then over tracks.
    np.testing.assert_allclose(bank.mean("vocals")["mean"], [[5.0]])


def test_silence_is_80_db_below_full_scale():
    assert pytest.approx(-80.0) == 20 * np.log10(conditions.SILENCE)
