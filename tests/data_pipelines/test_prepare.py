"""`prepare` shows only complete corpora, continues after a kill, and notices changed options and inputs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordReader
from signals import write_tracks

from data_pipelines import console, files, prepare, schema
from data_pipelines.corpora.chamber import Chamber
from data_pipelines.corpora.folder import Folder
from data_pipelines.prepared import records, store
from data_pipelines.prepared.commands import prepare_command
from data_pipelines.prepared.corpus import Excerpt, open_corpus
from data_pipelines.prepared.staging import worker_pool

ROOT = Path(__file__).parents[2]
TRACKS = {"train/a": ["bass", "drums"], "train/b": ["bass", "drums"], "train/c": ["bass"], "test/d": ["bass", "drums"]}


def build(source: Path, out: Path, **options) -> Path:
    return prepare.build(Folder(source), out, workers=1, **options)


def content(folder: Path) -> dict[str, object]:
    """The content of every file; records as their fields, since protobuf writes these in a varying order.

    Their digests are left out for the same reason.
    """
    files: dict[str, object] = {
        path.name: path.read_bytes() for path in folder.iterdir() if "array_record" not in path.name
    }
    files["metadata.json"] = json.loads((folder / "metadata.json").read_text()) | {"digests": None}
    for path in folder.glob("*array_record*"):
        reader = ArrayRecordReader(str(path))
        files[path.name] = [records.fields(reader.read([number])[0]) for number in range(reader.num_records())]
        reader.close()
    if "metadata.json" in files:
        files["metadata.json"] = json.loads((folder / "metadata.json").read_text()) | {"digests": {}}
    return files


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}


@pytest.fixture
def source(tmp_path) -> Path:
    return write_tracks(tmp_path / "source", TRACKS)


def test_the_corpus_holds_the_samples_of_the_folder(source, tmp_path):
    folder = build(source, tmp_path / "data")
    assert folder == tmp_path / "data" / "folder" / "8000"
    assert [path.name for path in folder.parent.iterdir()] == ["8000"]
    index = store.Metadata.load(folder).index
    rows = {f"{split}/{row.track}": [] for split, rows in index.items() for row in rows}
    for split, members in index.items():
        corpus = open_corpus(tmp_path / "data", "folder", 8000, split)
        for row in members:
            rows[f"{split}/{row.track}"].append(row.stem)
            original, _ = soundfile.read(source / split / row.track / f"{row.stem}.wav", dtype="int16", always_2d=True)
            read = corpus.read(Excerpt(row.track, row.stem, 0, len(original)))
            np.testing.assert_array_equal(read * 32768, original)
    assert rows == TRACKS


LOGGED = """
import os, sys, time
from pathlib import Path
from data_pipelines.prepared import store
from data_pipelines.corpora.folder import Folder
from data_pipelines.prepare import build

def pause(moment):
    if os.environ["PAUSE"] == moment:
        Path(sys.argv[2], "paused").touch()
        time.sleep(300)

class LoggedFolder(Folder):
    def load(self, track, rate):
        if track.name == "c":
            pause("loading")
        with open(os.environ["LOADED"], "a") as log:
            log.write(track.name)
        return super().load(track, rate)

if __name__ == "__main__":
    copy = store._store_uncompressed
    store._store_uncompressed = lambda *args: (copy(*args), pause("writing"))[0]
    options = {"sample_rate": 8000, "workers": 1, "overwrite": bool(sys.argv[3])}
    build(LoggedFolder(Path(sys.argv[1])), Path(sys.argv[2], "data"), **options)
"""


def start_logged(source: Path, folder: Path, pause: str = "", overwrite: str = "") -> subprocess.Popen:
    """Start a build in another process, which logs the tracks that it loads and may pause."""
    (folder / "logged.py").write_text(LOGGED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PAUSE": pause, "LOADED": str(folder / "loaded")}
    command = [sys.executable, "logged.py", str(source), str(folder), overwrite]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.05)


def alive_in_session(session: int) -> list[int]:
    """Processes of a session that still run; zombies do not count."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session_id = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(session_id) == session and state != "Z":
            alive.append(int(path.parent.name))
    return alive


def kill_when_paused(process: subprocess.Popen, folder: Path) -> None:
    try:
        wait_until(lambda: (folder / "paused").exists() or process.poll() is not None)
        process.kill()
        process.wait()
        # The worker ends by itself, also if it would not have received another track.
        wait_until(lambda: not alive_in_session(process.pid), 10.0)
    finally:
        for survivor in alive_in_session(process.pid):
            os.kill(survivor, signal.SIGKILL)


@pytest.mark.parametrize("moment", ["loading", "writing"])
def test_a_killed_build_is_continued(moment, source, tmp_path):
    kill_when_paused(start_logged(source, tmp_path, pause=moment), tmp_path)
    folder = tmp_path / "data" / "folder" / "8000"
    assert not folder.exists()
    assert (tmp_path / "loaded").read_text() == {"loading": "ab", "writing": "abcd"}[moment]

    assert start_logged(source, tmp_path).wait() == 0
    assert (tmp_path / "loaded").read_text() == "abcd"
    assert [path.name for path in folder.parent.iterdir()] == ["8000"]
    again = build(source, tmp_path / "uninterrupted")
    assert content(folder) == content(again)


def test_overwrite_does_not_use_the_tracks_of_a_killed_build_without_it(source, tmp_path):
    kill_when_paused(start_logged(source, tmp_path, pause="loading"), tmp_path)
    assert (tmp_path / "loaded").read_text() == "ab"
    (tmp_path / "paused").unlink()
    kill_when_paused(start_logged(source, tmp_path, pause="loading", overwrite="yes"), tmp_path)
    assert (tmp_path / "loaded").read_text() == "abab"
    assert start_logged(source, tmp_path, overwrite="yes").wait() == 0
    assert (tmp_path / "loaded").read_text() == "ababcd"
    assert [path.name for path in (tmp_path / "data" / "folder").iterdir()] == ["8000"]


def test_the_same_command_again_does_nothing(source, tmp_path, in_process):
    before = times(build(source, tmp_path / "data"))
    assert times(build(source, tmp_path / "data")) == before


def test_overwrite_builds_again_even_if_nothing_changed(source, tmp_path, in_process):
    folder = build(source, tmp_path / "data")
    path = source / "train" / "a" / "bass.wav"
    status, before = path.stat(), content(folder)
    soundfile.write(path, np.zeros(8000), 8000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert content(build(source, tmp_path / "data")) == before
    assert content(build(source, tmp_path / "data", overwrite=True)) != before
    assert not open_corpus(tmp_path / "data", "folder", 8000, "train").read(Excerpt("a", "bass", 0, 8000)).any()
    assert [path.name for path in folder.parent.iterdir()] == ["8000"]


def test_other_options_are_noticed(source, tmp_path, in_process, monkeypatch):
    folder = build(source, tmp_path / "data")
    before = times(folder)
    monkeypatch.setattr(Folder, "version", Folder.version + 1)
    with pytest.raises(ValueError, match=r"prepared from other options or another input .* --overwrite .* --name"):
        build(source, tmp_path / "data")
    assert times(folder) == before
    other = build(source, tmp_path / "data", name="mine")
    assert other == tmp_path / "data" / "mine" / "8000"
    assert times(folder) == before


CHANGES = {
    "rewritten": lambda path: soundfile.write(path, np.zeros(8000), 8000),
    "touched": lambda path: os.utime(path, (1, 1)),
    "removed": lambda path: path.unlink(),
    "added": lambda path: soundfile.write(path.with_name("new.wav"), np.zeros(8000), 8000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_input_is_noticed_and_replaced_with_overwrite(change, source, tmp_path, in_process):
    folder = build(source, tmp_path / "data")
    before = content(folder)
    CHANGES[change](source / "train" / "a" / "bass.wav")
    with pytest.raises(ValueError, match="another input"):
        build(source, tmp_path / "data")
    assert content(folder) == before
    build(source, tmp_path / "data", overwrite=True)
    assert store.Metadata.load(folder).fingerprint == store.fingerprint(Folder(source), 8000)
    assert content(folder) == content(build(source, tmp_path / "fresh"))
    before = times(folder)
    assert times(build(source, tmp_path / "data")) == before
    assert times(build(source, tmp_path / "data", overwrite=True)) != before
    assert content(folder) == content(tmp_path / "fresh" / "folder" / "8000")


def test_copies_at_several_sample_rates(source, tmp_path, in_process):
    build(source, tmp_path / "data")
    build(source, tmp_path / "data", sample_rate=16_000)
    assert sorted(path.name for path in (tmp_path / "data" / "folder").iterdir()) == ["16000", "8000"]
    corpus = open_corpus(tmp_path / "data", "folder", 16_000, "train")
    assert corpus.length("a", "bass") == 16_000


def test_damaged_metadata(source, tmp_path, in_process):
    folder = build(source, tmp_path / "data")
    (folder / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match="prepare the corpus again with --overwrite"):
        build(source, tmp_path / "data")
    build(source, tmp_path / "data", overwrite=True)
    assert content(folder) == content(build(source, tmp_path / "fresh"))


def test_leftovers_of_other_builds_are_removed(source, tmp_path, in_process):
    parent = tmp_path / "data" / "folder"
    for stale in (".8000-0123-tracks", ".8000-0123-writing", ".8000-0123-overwrite-tracks-done", ".16000-0123-tracks"):
        (parent / stale).mkdir(parents=True)
        (parent / stale / "file").write_text("left")
    build(source, tmp_path / "data")
    assert sorted(path.name for path in parent.iterdir()) == [".16000-0123-tracks", "8000"]


def test_a_build_waits_for_another_one_and_uses_its_corpus(source, tmp_path, in_process, monkeypatch, capsys):
    complete, folder = build(source, tmp_path / "other"), tmp_path / "data" / "folder" / "8000"
    monkeypatch.setattr(prepare, "stage_tracks", None)  # nothing is loaded again
    at_work = threading.Event()

    def other_process() -> None:
        with files.locked(folder):
            at_work.set()
            time.sleep(0.5)
            shutil.copytree(complete, folder)

    thread = threading.Thread(target=other_process)
    thread.start()
    at_work.wait()
    assert build(source, tmp_path / "data") == folder
    thread.join()
    assert f"waiting, since {folder}: process {os.getpid()} on" in capsys.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == ["8000"]


def test_a_killed_worker_is_one_error(tmp_path):
    message = r"reads tracks was killed.*: give fewer --workers, and the same command continues"
    with pytest.raises(ChildProcessError, match=message), worker_pool(1) as ordered_map:
        list(ordered_map(os._exit, [9]))


def test_a_damaged_file_ends_the_build(source, tmp_path, in_process):
    os.truncate(source / "train" / "b" / "drums.wav", 1000)
    with pytest.raises(ValueError, match=r"b/drums.wav: is truncated"):
        build(source, tmp_path / "data")
    assert not (tmp_path / "data" / "folder" / "8000").exists()


def test_warnings_of_tracks_are_summed_up(source, tmp_path, in_process):
    for stem in ("bass", "drums"):
        soundfile.write(source / "train" / "a" / f"{stem}.wav", np.full(8000, 1.5), 8000, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"1 of 4 tracks caused warnings; the first: a: audio peaks at 1\.5"):
        build(source, tmp_path / "data")


@pytest.mark.parametrize("name", ["Mine", "my-corpus", "1st", "../up", "a b"])
def test_names_that_are_refused(name, source, tmp_path):
    with pytest.raises(ValueError, match="must hold only lower-case letters, digits and '_', and begin with a letter"):
        build(source, tmp_path / "data", name=name)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("rate", [7999, 192_001])
def test_sample_rates_that_are_refused(rate, source, tmp_path):
    with pytest.raises(ValueError, match=f"--sample-rate {rate} is outside 8000 to 192000"):
        build(source, tmp_path / "data", sample_rate=rate)


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "data_pipelines.prepare", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command(source, tmp_path):
    process = command("folder", "--source", source, "--out", tmp_path / "data", "--workers", 1)
    assert (process.returncode, process.stdout) == (0, f"{tmp_path / 'data' / 'folder' / '8000'}\n")
    assert "folder, 8000 Hz: done, 4 in" in process.stderr
    assert "Traceback" not in process.stderr
    assert open_corpus(tmp_path / "data", "folder", 8000, "test").tracks("bass") == ("d",)


def test_an_error_is_one_line(tmp_path):
    process = command("folder", "--source", tmp_path / "nowhere", "--out", tmp_path / "data")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"error: {tmp_path / 'nowhere'}: no such folder\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", schema.BUILT_IN)
def test_the_suggested_command_prepares_the_corpus_that_training_would(name, monkeypatch, tmp_path):
    """Otherwise, `train` would refuse the corpus after a user followed its advice."""
    words = prepare_command(tmp_path, name, 16_000).split()
    assert words[:2] == ["qsep", "prepare"]
    calls = []
    monkeypatch.setattr(prepare, "build", lambda corpus, root, **options: calls.append((corpus, root, options)))
    monkeypatch.setattr(sys, "argv", words[1:])
    prepare.main()
    ((corpus, root, options),) = calls
    expected = prepare.built_in_corpus(name)
    assert corpus == expected
    assert expected is not None
    assert store.fingerprint(corpus, 16_000) == store.fingerprint(expected, 16_000)
    assert (root, options["name"] or corpus.kind, options["sample_rate"]) == (tmp_path, name, 16_000)


def test_the_command_of_the_shifted_corpus():
    assert prepare_command("data", "chamber_shifted", 16_000) == (
        "qsep prepare chamber --name chamber_shifted --works 60 --longest 60 --shifts 4 --out data --sample-rate 16000"
    )
    assert prepare.built_in_corpus("chamber_shifted") == Chamber(works=60, longest=60.0, shifts=4)
    assert prepare.built_in_corpus("urmp") is None


def test_the_command_of_the_published_tracks_of_urmp(monkeypatch, tmp_path):
    words = prepare_command(tmp_path, "urmp_published", 16_000).split()
    assert words[2:9] == ["urmp", "--name", "urmp_published", "--source", "DIR", "--tracks", "published"]
    calls = []
    monkeypatch.setattr(prepare, "build", lambda corpus, *others, **options: calls.append(corpus))
    monkeypatch.setattr(sys, "argv", words[1:])
    prepare.main()
    assert calls[0].training_tracks == "published"
    assert calls[0].kind == "urmp"


USER_ERRORS = {
    "folder --source x --overwrit": "unknown option '--overwrit'; did you mean '--overwrite'?",
    "folder --source x --workrs 2": "unknown option '--workrs'; did you mean '--workers'?",
    "folder --source x --sourse y": "unknown option '--sourse'; did you mean '--source'?",
    "band --trian 3": "unknown option '--trian'; did you mean '--train'?",
    "chamber --longst 3": "unknown option '--longst'; did you mean '--longest'?",
    "band --frobnicate": "unknown option '--frobnicate'; see qsep prepare --help",
    "chamber --name Bad": (
        "the name 'Bad' of a corpus must hold only lower-case letters, digits and '_', and begin with a letter"
    ),
    "urmp --source none": "none: no such folder",
    "urmp --source x --merge": "unknown option '--merge'; did you mean '--merged'?",
    "solos --source none": "none: no such folder",
    "dsd100 --source none": "none: no such folder",
    "medleydb --source none": "none: no such folder",
    "ikala --source none": "none: no such folder",
    "ccmixter --source none": "none: no such folder",
    "solos --source x --frame-rat 3": "unknown option '--frame-rat'; did you mean '--frame-rate'?",
    "chamber --shifts 13": "--shifts 13 is outside 0 to 12 semitones",
    "chamber --soundfont none.sf2": "none.sf2: no such SoundFont",
    "chamber --sample-rate 100": "--sample-rate 100 is outside 8000 to 192000 Hz",
}


@pytest.mark.parametrize("arguments", USER_ERRORS)
def test_user_errors_on_the_command_line(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments.split()])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_info:
        console.run(prepare.main)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == f"error: {USER_ERRORS[arguments]}\n"
    assert not list(tmp_path.iterdir())


def test_the_error_for_a_file_without_audio_is_one_line(source, tmp_path, capsys, monkeypatch):
    (source / "train" / "a" / "bass.wav").write_text("text")
    monkeypatch.setattr(sys, "argv", ["prepare", "folder", "--source", str(source), "--out", str(tmp_path / "data")])
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        console.run(prepare.main)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source / 'train' / 'a' / 'bass.wav'}: cannot be read as audio")
    assert error.count("\n") == 1
