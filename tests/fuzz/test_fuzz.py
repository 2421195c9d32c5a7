"""Some cases of the fuzz test of every parser; `python -m tests.fuzz all --seconds 3600` runs more of them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS, Parser
from tests.fuzz.running import run

CASES = {"variables": 60, "delta": 60, "config": 150}


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_are_read_or_refused_in_one_line(name):
    result = run(PARSERS[name], seed=2026, cases=CASES.get(name, 300))
    assert result.failures == []
    assert result.refused


def test_a_parser_that_fails_is_found():
    def parse(path: Path) -> None:
        if path.read_bytes() != b"valid":
            raise KeyError("a")

    result = run(Parser("file", lambda folder: (folder / "file").write_bytes(b"valid"), parse), 0, cases=50)
    assert result.failures
    assert result.cases == 50


@pytest.fixture(scope="module", params=["torch", "torch-stream", "conditions", "metadata"])
def file(request):
    """A parser, a folder with its valid file, and the content of that file."""
    parser = PARSERS[request.param]
    with tempfile.TemporaryDirectory() as folder:
        parser.make(Path(folder))
        path = Path(folder) / parser.file
        yield parser, path, path.read_bytes()


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_flipped_and_truncated_files(file, data):
    parser, path, content = file
    length = data.draw(st.integers(0, len(content)))
    damaged = bytearray(content[: data.draw(st.sampled_from([length, len(content)]))])
    positions = st.integers(0, max(len(damaged) - 1, 0))
    for position in data.draw(st.lists(positions, max_size=5)) if damaged else []:
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        parser.parse(path)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 (a file may also be read)
