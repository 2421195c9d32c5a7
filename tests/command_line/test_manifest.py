"""Which outputs a command may write over, and the entries of commands that run at the same time."""

import json
import multiprocessing
from pathlib import Path

import pytest

from qsep_jax.command_line.manifest import Manifest, check_manifest


def manifest(out: Path, overwrite: bool = False) -> Manifest:
    return Manifest(out, "separated", {"options": {"out": str(out)}}, overwrite)


def write(out: Path, source: Path, *names: str, overwrite: bool = False) -> Manifest:
    """Write files as a command does that makes them from `source`."""
    entry = manifest(out, overwrite)
    with entry.publishing([source], [out / name for name in names]):
        for name in names:
            (out / name).write_text(str(source))
    return entry


def write_many(out: Path, name: str) -> None:
    entry = manifest(out)
    for number in range(10):
        with entry.publishing([Path(name)], [out / f"{name}{number}"]):
            pass


def check_and_start(out: Path) -> None:
    check_manifest(out)
    manifest(out).check({out / "x": [Path("a")]})


def read(out: Path) -> list:
    return json.loads((out / "manifest.json").read_text())


def test_an_output_of_another_input_is_kept(tmp_path):
    out, first, second = tmp_path / "out", tmp_path / "d1" / "song.wav", tmp_path / "d2" / "song.wav"
    write(out, first, "violin.wav")
    write(out, first, "violin.wav", "cello.wav")
    for attempt in (
        lambda: manifest(out).check({out / "violin.wav": [second]}),
        lambda: write(out, second, "violin.wav"),
    ):
        with pytest.raises(ValueError, match=r"out/violin.wav is an output of .*/d1/song.wav: give --overwrite"):
            attempt()
    assert (out / "violin.wav").read_text() == str(first)
    assert len(read(out)) == 2
    write(out, second, "violin.wav", overwrite=True)
    assert (out / "violin.wav").read_text() == str(second)
    with pytest.raises(ValueError, match=r"is an output of .*/d2/song.wav"):
        write(out, first, "violin.wav")
    (out / "violin.wav").unlink()
    write(out, first, "violin.wav")


def test_a_file_of_the_user_is_kept(tmp_path):
    (tmp_path / "violin.wav").write_text("mine")
    with pytest.raises(ValueError, match=r"violin.wav exists already, and .*manifest.json does not list it"):
        write(tmp_path, tmp_path / "mix.wav", "violin.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["violin.wav"]
    write(tmp_path, tmp_path / "mix.wav", "violin.wav", overwrite=True)


def test_entries_of_earlier_versions_and_moved_folders(tmp_path, monkeypatch):
    """Earlier entries name the input as it was given; the folder may be moved as a whole."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old" / "mix").mkdir(parents=True)
    (tmp_path / "old" / "mix" / "violin.wav").touch()
    item = {"file": "mix.wav", "outputs": [{"path": "old/mix/violin.wav"}]}
    (tmp_path / "old" / "manifest.json").write_text(json.dumps([{"options": {"out": "old"}, "separated": [item]}]))
    (tmp_path / "old").rename(tmp_path / "new")
    output = tmp_path / "new" / "mix" / "violin.wav"
    manifest(Path("new")).check({output: [tmp_path / "mix.wav"]})
    with pytest.raises(ValueError, match=r"violin.wav is an output of .*/mix.wav"):
        manifest(Path("new")).check({output: [tmp_path / "other" / "mix.wav"]})


def test_the_same_relative_name_in_two_working_directories(tmp_path, monkeypatch):
    for name in ("d1", "d2"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "d1")
    write(tmp_path / "out", Path("song.wav"), "violin.wav")
    monkeypatch.chdir(tmp_path / "d2")
    with pytest.raises(ValueError, match=r"is an output of .*/d1/song.wav"):
        write(tmp_path / "out", Path("song.wav"), "violin.wav")


def test_what_fails_to_appear_is_not_listed(tmp_path):
    entry = manifest(tmp_path)
    with pytest.raises(OSError, match="full"), entry.publishing([Path("a")], [tmp_path / "x"]):
        raise OSError("full")
    assert not list(tmp_path.iterdir())
    write(tmp_path, Path("b"), "y")
    with pytest.raises(OSError, match="full"), entry.publishing([Path("a")], [tmp_path / "x"]):
        raise OSError("full")
    assert [item["file"] for entry in read(tmp_path) for item in entry["separated"]] == ["b"]


def test_parallel_commands_lose_no_entry(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=write_many, args=(tmp_path, name)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(len(entry["separated"]) for entry in read(tmp_path)) == [10] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "content", ["{", "{}", "[3]", '[{"separated": 3, "options": {"out": "."}}]', '[{"separated": []}]']
)
def test_damaged_manifests_are_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match=r"manifest.json .*: move it away or give another --out"):
        check_and_start(tmp_path)
