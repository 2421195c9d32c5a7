"""Run folders: the record of their starts."""

import json

import pytest

from qsep_jax.runs.folder import RunFolder
from tests.experiments import debug


def test_each_start_is_recorded(tmp_path):
    folder, experiment = RunFolder(tmp_path / "run"), debug("lee2019.py")
    for _ in range(2):
        folder.create_or_check(experiment)
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert [sorted(start) for start in starts] == [sorted(starts[0])] * 2
    assert {"time", "packages", "devices", "commit"} <= starts[0].keys()


@pytest.mark.parametrize("content", ["", "[{", "\udcff"])
def test_a_damaged_record_is_refused_with_a_remedy(tmp_path, content):
    folder, experiment = RunFolder(tmp_path / "run"), debug("lee2019.py")
    folder.create_or_check(experiment)
    path = tmp_path / "run" / "environment.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"environment.json cannot be read as JSON \(.*\): remove it, and this start"):
        folder.create_or_check(experiment)
    path.unlink()
    folder.create_or_check(experiment)
    assert len(json.loads(path.read_text())) == 1
