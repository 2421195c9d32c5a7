"""Names and places of outputs."""

from pathlib import Path

import pytest

from qsep_jax.command_line.paths import below, distinct_tracks, output_paths

TEMPLATE = "{track}/{stem}.{ext}"


def names(*files: str) -> list[str]:
    """The tracks that the files get, all of them with the name of the file at first."""
    tracks = {Path(file): Path(file).stem for file in files}
    return list(distinct_tracks(tracks, lambda file, track: track).values())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("song.wav", "other.wav"), ["song", "other"]),
        (("d1/song.wav", "d2/song.wav", "d3/x.wav"), ["d1/song", "d2/song", "x"]),
        (("a/cd/song.wav", "b/cd/song.wav"), ["a/cd/song", "b/cd/song"]),
        (("song.wav", "song.mp3"), ["song_wav", "song_mp3"]),
        (("d1/song.wav", "d1/song.mp3", "d2/song.wav"), ["d1/song_wav", "d1/song_mp3", "d2/song"]),
        (("song.wav", "SONG.wav"), ["song", "SONG"]),
        (("song.WAV", "song.wav"), ["song_wav", "song_wav_2"]),
        (("d/\u00e9.wav", "d/e\u0301.wav"), ["\u00e9", "e\u0301_2"]),
    ],
)
def test_tracks_of_one_name_get_longer_names(files, expected):
    assert names(*files) == expected


def test_the_order_of_the_files_does_not_matter():
    assert sorted(names("d2/song.wav", "d1/song.wav")) == sorted(names("d1/song.wav", "d2/song.wav"))


def test_tracks_of_folders_keep_their_relative_path():
    tracks = {Path("x/album/side b/1.wav"): "side b/1", Path("y/album/side b/1.wav"): "side b/1"}
    assert list(distinct_tracks(tracks, lambda file, track: track).values()) == [
        "x/album/side b/1",
        "y/album/side b/1",
    ]


def test_only_outputs_of_one_path_are_renamed(tmp_path):
    """Files in two containers that keep their containers have outputs of two extensions."""
    tracks = {Path("song.wav"): "song", Path("song.flac"): "song"}
    paths = output_paths(tracks, ["bass"], tmp_path, TEMPLATE)
    assert [path.relative_to(tmp_path) for of_file in paths.values() for path in of_file] == [
        Path("song/bass.wav"),
        Path("song/bass.flac"),
    ]
    paths = output_paths(tracks, ["bass"], tmp_path, "{track}/{stem}.flac")
    assert [path.parent.name for of_file in paths.values() for path in of_file] == ["song_wav", "song_flac"]
    with pytest.raises(ValueError, match="would be an output of both"):
        output_paths(tracks, ["bass"], tmp_path, "{stem}.flac")


@pytest.mark.parametrize(
    "template", ["../{stem}.wav", "/tmp/{stem}.wav", "{track}/../../{stem}.wav", "a/../../{stem}.{ext}"]
)
def test_no_template_leads_out(tmp_path, template):
    with pytest.raises(ValueError, match="nothing is written outside of the folder for outputs"):
        output_paths({Path("song.wav"): "song"}, ["bass"], tmp_path / "out", template)


@pytest.mark.parametrize("stem", ["../x", "/tmp/x", "a/b", "a\0b", "a\nb"])
def test_no_stem_leads_out(tmp_path, stem):
    with pytest.raises(ValueError, match="an output cannot be called") as error:
        output_paths({Path("song.wav"): "song"}, [stem], tmp_path / "out", TEMPLATE)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["..", "../x", ".", "", "a/..", "link/x", "/etc/passwd"])
def test_places_outside_of_the_folder(tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not below"):
        below(out, name)


def test_places_inside_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "real" / "x.wav").symlink_to("/etc/hostname")  # is replaced, not followed
    for out in (Path("out"), tmp_path / "out", Path(".")):
        for name in ("x.wav", "a/x.wav", "a/../x.wav", "..x", "..."):
            assert below(out, name) == out / name
