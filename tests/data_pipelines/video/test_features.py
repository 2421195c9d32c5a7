"""Cached features: looked up by time, whole or not there, and told from those that are damaged."""

import json

import numpy as np
import pytest

from data_pipelines.video import features


def items(count=7, dims=3, scale=1.0):
    for number, (split, track, stem) in enumerate((("train", "a", "x"), ("train", "b", "x"), ("test", "a", "y"))):
        rows = np.arange((count + number) * dims, dtype=np.float32).reshape(-1, dims)
        yield split, track, stem, scale * (1000 * number + rows)


def test_the_nearest_row_is_found(tmp_path):
    target = features.write(tmp_path, "seen", 2.0, 3, items(), "made by a test")
    assert target == tmp_path / "features" / "seen"
    found = features.read(tmp_path, "seen")
    assert (found.mark, found.rate) == ("made by a test", 2.0)
    assert isinstance(found.rows, np.memmap)
    assert found.rows.dtype == np.float32
    rows = {key: value for *key, value in items() for key in [tuple(key)]}
    times = np.array([0.0, 0.24, 0.26, 1.6, 2.9, 100.0, -1.0])
    for (split, track, stem), all_rows in rows.items():
        expected = all_rows[[0, 0, 1, 3, 6, len(all_rows) - 1, 0]]
        np.testing.assert_array_equal(found.at(split, track, stem, times), expected)
    with pytest.raises(KeyError):
        found.at("validation", "a", "x", times)


def test_they_are_replaced_as_a_whole(tmp_path):
    features.write(tmp_path, "seen", 2.0, 3, items(), "first")

    def stops():
        yield from list(items(scale=2.0))[:2]
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        features.write(tmp_path, "seen", 2.0, 3, stops(), "second")
    found = features.read(tmp_path, "seen")
    assert found.mark == "first"
    assert float(found.at("train", "b", "x", np.zeros(1))[0, 0]) == 1000.0
    features.write(tmp_path, "seen", 2.0, 3, items(scale=2.0), "third")
    assert float(features.read(tmp_path, "seen").at("train", "b", "x", np.zeros(1))[0, 0]) == 2000.0
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["seen"]


def test_names_lie_side_by_side(tmp_path):
    for name, scale in (("one", 1.0), ("two", 2.0)):
        features.write(tmp_path, name, 2.0, 3, items(scale=scale), name)
    assert features.read(tmp_path, "one").mark == "one"
    assert float(features.read(tmp_path, "two").rows[1, 0]) == 6.0


@pytest.mark.parametrize("shape", [(4, 2), (0, 3), (4,)])
def test_rows_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"features of 'x' in 'a' are .*, not \[n, 3\]"):
        features.write(tmp_path, "seen", 2.0, 3, [("train", "a", "x", np.zeros(shape))], "")
    with pytest.raises(FileNotFoundError):
        features.read(tmp_path, "seen")


def test_damaged_ones_are_named(tmp_path):
    target = features.write(tmp_path, "seen", 2.0, 3, items(), "")
    index = json.loads((target / "index.json").read_text())
    whole = (target / "features.f32").read_bytes()
    (target / "features.f32").write_bytes(whole[:-12])
    with pytest.raises(ValueError, match=r"features/seen cannot be read .*: remove it and make the features again"):
        features.read(tmp_path, "seen")
    (target / "features.f32").write_bytes(whole)
    for damaged in ("{", "[]", json.dumps({**index, "format": 99}), json.dumps({**index, "index": 3})):
        (target / "index.json").write_text(damaged)
        with pytest.raises(ValueError, match="features/seen cannot be read"):
            features.read(tmp_path, "seen")
