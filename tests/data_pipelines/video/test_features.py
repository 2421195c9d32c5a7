"""Cached features are looked up by time, appear only when complete, and are checked for damage."""

import json

import numpy as np
import pytest

from data_pipelines.video import features


def items(count=7, dims=3, scale=1.0):
    for number, (split, track, stem) in enumerate((("train", "a", "x"), ("train", "b", "x"), ("test", "a", "y"))):
        rows = np.arange((count + number) * dims, dtype=np.float32).reshape(-1, dims)
        yield split, track, stem, scale * (1000 * number + rows)


def test_the_nearest_row_is_returned(tmp_path):
    target = features.write(tmp_path, "net", 2.0, 3, items(), "made by a test")
    assert target == tmp_path / "features" / "net"
    cached = features.read(tmp_path, "net")
    assert (cached.mark, cached.rate) == ("made by a test", 2.0)
    assert isinstance(cached.rows, np.memmap)
    assert cached.rows.dtype == np.float32
    rows = {key: value for *key, value in items() for key in [tuple(key)]}
    times = np.array([0.0, 0.24, 0.26, 1.6, 2.9, 100.0, -1.0])
    for (split, track, stem), all_rows in rows.items():
        expected = all_rows[[0, 0, 1, 3, 6, len(all_rows) - 1, 0]]
        np.testing.assert_array_equal(cached.at(split, track, stem, times), expected)
    with pytest.raises(KeyError):
        cached.at("validation", "a", "x", times)


def test_features_are_replaced_only_when_complete(tmp_path):
    features.write(tmp_path, "net", 2.0, 3, items(), "first")

    def interrupted():
        yield from list(items(scale=2.0))[:2]
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        features.write(tmp_path, "net", 2.0, 3, interrupted(), "second")
    cached = features.read(tmp_path, "net")
    assert cached.mark == "first"
    assert float(cached.at("train", "b", "x", np.zeros(1))[0, 0]) == 1000.0
    features.write(tmp_path, "net", 2.0, 3, items(scale=2.0), "third")
    assert float(features.read(tmp_path, "net").at("train", "b", "x", np.zeros(1))[0, 0]) == 2000.0
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["net"]


def test_features_of_several_names(tmp_path):
    for name, scale in (("one", 1.0), ("two", 2.0)):
        features.write(tmp_path, name, 2.0, 3, items(scale=scale), name)
    assert features.read(tmp_path, "one").mark == "one"
    assert float(features.read(tmp_path, "two").rows[1, 0]) == 6.0


@pytest.mark.parametrize("shape", [(4, 2), (0, 3), (4,)])
def test_rows_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"features of 'x' in 'a' are .*, not \[n, 3\]"):
        features.write(tmp_path, "net", 2.0, 3, [("train", "a", "x", np.zeros(shape))], "")
    with pytest.raises(FileNotFoundError):
        features.read(tmp_path, "net")


def test_damaged_features_are_reported(tmp_path):
    target = features.write(tmp_path, "net", 2.0, 3, items(), "")
    index = json.loads((target / "index.json").read_text())
    content = (target / "features.f32").read_bytes()
    (target / "features.f32").write_bytes(content[:-12])
    with pytest.raises(
        ValueError, match=r"features/net cannot be read .*: delete .*features/net and compute the features again"
    ):
        features.read(tmp_path, "net")
    (target / "features.f32").write_bytes(content)
    for damaged in ("{", "[]", json.dumps({**index, "format": 99}), json.dumps({**index, "index": 3})):
        (target / "index.json").write_text(damaged)
        with pytest.raises(
            ValueError, match=r"features/net(/index.json)? cannot be read .*: delete .*features/net and compute"
        ):
            features.read(tmp_path, "net")


def test_one_process_writes_at_a_time(tmp_path):
    def overlapping():
        with pytest.raises(ValueError, match=r"features/net: process \d+ on .* is at work here"):
            features.write(tmp_path, "net", 2.0, 3, items(), "second")
        yield from items()

    features.write(tmp_path, "net", 2.0, 3, overlapping(), "first")
    assert features.read(tmp_path, "net").mark == "first"
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["net"]
