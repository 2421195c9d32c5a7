"""Folders of audio as operating systems and tools leave them."""

import unicodedata

import pytest
import soundfile
from signals import tone

from data_pipelines.audio.listing import audio_files_below, entries, stems_of, track_folders, warn_of_mixtures

# A folder as macOS, Synology, Windows and Jupyter leave it, with nothing of the user.
DEBRIS = ("._vocals.wav", ".hidden.wav", ".DS_Store", "notes.txt", "desktop.ini")
FOLDERS_OF_TOOLS = ("__MACOSX", ".ipynb_checkpoints", "@eaDir", ".AppleDouble", "$RECYCLE.BIN")


def make(folder, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        soundfile.write(folder / name, tone(220, 0.01, 8000), 8000)


def leave_debris(folder) -> None:
    for name in DEBRIS:
        (folder / name).write_bytes(b"\0\5\x16\7" + bytes(78))
    for name in FOLDERS_OF_TOOLS:
        make(folder / name, "vocals.wav")


def test_what_systems_leave_is_skipped(tmp_path):
    make(tmp_path, "vocals.wav", "Drums.FLAC")
    make(tmp_path / "side b", "1.wav")
    leave_debris(tmp_path)
    leave_debris(tmp_path / "side b")
    assert {name: path.name for name, path in stems_of(tmp_path).items()} == {
        "vocals": "vocals.wav",
        "Drums": "Drums.FLAC",
    }
    assert [path.name for path in track_folders(tmp_path)] == ["side b"]
    assert [str(path.relative_to(tmp_path)) for path in audio_files_below(tmp_path)] == [
        "Drums.FLAC",
        "side b/1.wav",
        "vocals.wav",
    ]
    assert [path.name for path in entries(tmp_path, "*.wav")] == ["vocals.wav"]
    assert entries(tmp_path / "none") == audio_files_below(tmp_path / "none") == []


def test_the_mixture_is_no_stem(tmp_path):
    for track in "ab":
        make(tmp_path / track, "vocals.wav", "Mixture.wav", "mix.wav")
    assert list(stems_of(tmp_path / "a")) == ["mix", "vocals"]
    with pytest.warns(UserWarning, match=r"a/Mixture.wav and 1 other files .* not read as a stem") as warned:
        warn_of_mixtures(track_folders(tmp_path))
    assert len(warned) == 1
    (tmp_path / "a" / "Mixture.wav").unlink()
    with pytest.warns(UserWarning, match=r"b/Mixture.wav holds a mixture"):
        warn_of_mixtures(track_folders(tmp_path))
    (tmp_path / "b" / "Mixture.wav").unlink()
    warn_of_mixtures(track_folders(tmp_path))  # a warning would be an error


@pytest.mark.parametrize("others", [("x.flac",), ("X.wav",), ("é.wav", unicodedata.normalize("NFD", "é.wav"))])
def test_two_files_of_one_stem(tmp_path, others):
    make(tmp_path, "x.wav", *others)
    with pytest.raises(ValueError, match="holds two files for one stem: "):
        stems_of(tmp_path)


def test_names_are_composed(tmp_path):
    make(tmp_path, unicodedata.normalize("NFD", "köttur.wav"))
    assert list(stems_of(tmp_path)) == ["köttur"]


@pytest.mark.parametrize("name", ["gtr@amp", "a\nb", "a\\b", "a:b", "a\x1b[1m"])
def test_names_that_are_not_plain(tmp_path, name):
    make(tmp_path, f"{name}.wav")
    with pytest.raises(ValueError, match="the name of a stem is ") as error:
        stems_of(tmp_path)
    assert "\n" not in str(error.value)
