"""`medleydb`: voices and accompaniment, each stem added once, thirds of unlisted songs, and errors in the source."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from signals import levels_of, write_levels

from data_pipelines import prepare
from data_pipelines.corpora.medleydb import VOICES, Medleydb, is_voice
from data_pipelines.prepared.corpus import Excerpt, open_corpus

# The songs of these tests have invented names.
pytestmark = pytest.mark.filterwarnings("ignore:.*not in the published list of Stoller:UserWarning")
# Songs by name: instrument and level of each stem, then the instruments of its raw recordings if they differ.
SONGS: dict[str, list[tuple[Any, ...]]] = {
    "Anna_Band": [
        ("male singer", 0.1),
        ("electric bass", 0.02),
        ("vocalists", 0.2, "female singer", "female singer"),
        ("drum set", 0.05, "kick drum", "snare drum"),
        ("Main System", 0.01, "Main System"),
    ],
    "Bert_Instrumental": [("piano", 0.1), ("violin", 0.3)],
    "Cleo_Singers": [("female singer", 0.2), ("Main System", 0.1, "female singer", "male singer")],
    "Dora_Rap": [("female rapper", 0.1), ("sampler", 0.4)],
}


def metadata_of(song: str, stems: list[tuple[Any, ...]]) -> dict[str, Any]:
    entries = {}
    for number, (instrument, _, *raws) in enumerate(stems, start=1):
        entries[f"S{number:02d}"] = {
            "component": "",
            "filename": f"{song}_STEM_{number:02d}.wav",
            "instrument": instrument,
            "raw": {
                f"R{index:02d}": {"filename": f"{song}_RAW_{number:02d}_{index:02d}.wav", "instrument": raw}
                for index, raw in enumerate(raws or [instrument], start=1)
            },
        }
    return {"artist": "Anna", "instrumental": "no", "stem_dir": f"{song}_STEMS", "stems": entries}


def write_song(source: Path, song: str, stems: list[tuple[Any, ...]]) -> None:
    folder = source / "Audio" / song
    for number, (_, level, *_) in enumerate(stems, start=1):
        write_levels(folder / f"{song}_STEMS" / f"{song}_STEM_{number:02d}.wav", level, -level)
    write_levels(folder / f"{song}_MIX.wav", 0.9, 0.9)
    (folder / f"{song}_METADATA.yaml").write_text(yaml.safe_dump(metadata_of(song, stems)))


@pytest.fixture
def source(tmp_path) -> Path:
    for song, stems in SONGS.items():
        write_song(tmp_path / "MedleyDB", song, stems)
    return tmp_path / "MedleyDB"


def load(corpus: Medleydb, name: str) -> dict[str, list[float]]:
    (track,) = (track for track in corpus.tracks(map) if track.name == name)
    return {stem.name: levels_of(stem.audio) for stem in corpus.load(track, 44_100)}


def test_thirds_of_unlisted_songs(source):
    splits = ("train", "validation", "test", "test")
    tracks = Medleydb(source).tracks(map)
    assert [(track.name, track.split) for track in tracks] == list(zip(SONGS, splits, strict=True))


@pytest.mark.parametrize(
    ("song", "stems"),
    [
        ("Anna_Band", {"vocals": 0.3, "accompaniment": 0.08}),
        ("Bert_Instrumental", {"accompaniment": 0.4}),
        ("Cleo_Singers", {"vocals": 0.3}),
        ("Dora_Rap", {"vocals": 0.1, "accompaniment": 0.4}),
    ],
)
def test_each_stem_is_added_once(song, stems, source):
    assert load(Medleydb(source), song) == {name: [level, -level] for name, level in stems.items()}


def test_the_mix_is_not_needed(source):
    (source / "Audio" / "Dora_Rap" / "Dora_Rap_MIX.wav").unlink()
    assert set(load(Medleydb(source), "Dora_Rap")) == {"vocals", "accompaniment"}


@pytest.mark.parametrize("name", ["Metadata", "METADATA"])
def test_metadata_of_all_songs_in_one_folder(name, source):
    (source / name).mkdir()
    for path in list(source.glob("Audio/*/*.yaml")):
        path.rename(source / name / path.name)
    corpus = Medleydb(source)
    assert set(load(corpus, "Anna_Band")) == {"vocals", "accompaniment"}
    assert corpus.inputs()[0].startswith(f"{name}/Anna_Band_METADATA.yaml ")


VOICE_OR_NOT = [
    ("piano", ["male singer"], False),
    ("male singer", ["piano"], True),
    ("Main System", ["Main System"], False),
    ("Main System", ["male singer", "choir"], True),
    ("Main System", ["male singer", "piano"], False),
    ("Unlabeled", ["female rapper"], True),
    ("", ["vocalists"], True),
    (None, ["vocalists"], True),
    (None, [], False),
    (["male singer", "female singer"], [], True),
    (["male singer", "piano"], ["male singer"], False),
    ("crowd", ["crowd"], False),
    ("beatboxing", ["beatboxing"], True),
]


@pytest.mark.parametrize(("instrument", "raws", "voice"), VOICE_OR_NOT)
def test_whether_a_stem_is_a_voice(instrument, raws, voice):
    entry = {"instrument": instrument, "raw": {f"R{index}": {"instrument": raw} for index, raw in enumerate(raws)}}
    assert is_voice(entry) is voice


def test_voices_of_the_taxonomy():
    taxonomy = {"male singer", "female singer", "male speaker", "female speaker", "male rapper", "female rapper"}
    assert taxonomy | {"beatboxing", "vocalists"} <= VOICES
    assert not VOICES & {"crowd", "Main System", "Unlabeled", "fx/processed sound", "sampler", "whistle"}


def test_the_prepared_corpus(source, tmp_path):
    prepare.build(Medleydb(source), tmp_path / "out", workers=1)
    train = open_corpus(tmp_path / "out", "medleydb", 44_100, "train")
    np.testing.assert_allclose(train.read(Excerpt("Anna_Band", "vocals", 0, 400))[:, 0], 0.3, atol=1e-3)
    test = open_corpus(tmp_path / "out", "medleydb", 44_100, "test")
    assert (test.tracks("vocals"), test.tracks("accompaniment")) == (("Cleo_Singers", "Dora_Rap"), ("Dora_Rap",))
    assert open_corpus(tmp_path / "out", "medleydb", 44_100, "validation").stems == ("accompaniment",)


@pytest.mark.parametrize(("rate", "stored"), [(44_100, 44_100), (22_050, 22_050), (48_000, 44_100)])
def test_the_default_sample_rate_is_at_most_44100(rate, stored, source):
    write_levels(source / "Audio" / "Anna_Band" / "Anna_Band_STEMS" / "Anna_Band_STEM_01.wav", 0.1, rate=rate)
    assert Medleydb(source).sample_rate() == stored


def test_changed_files_are_changed_inputs(source):
    corpus = Medleydb(source)
    before = corpus.inputs()
    assert len(before) == 5 + 2 + 2 + 2 + 4
    write_levels(source / "Audio" / "Dora_Rap" / "Dora_Rap_STEMS" / "Dora_Rap_STEM_02.wav", 0.1, samples=500)
    changed = corpus.inputs()
    assert [old == new for old, new in zip(before, changed, strict=True)].count(False) == 1
    metadata = source / "Audio" / "Anna_Band" / "Anna_Band_METADATA.yaml"
    metadata.write_text(f"{metadata.read_text()}\n")
    assert [old == new for old, new in zip(changed, corpus.inputs(), strict=True)].count(False) == 1


A = "Audio/Anna_Band/Anna_Band"
FORM = r"Anna_Band_METADATA.yaml does not list stems as \{stems: \{S01: \{filename, instrument, raw\}, …\}\}"
DAMAGES = {
    "no metadata": (
        lambda source: (source / f"{A}_METADATA.yaml").unlink(),
        rf"{A}_METADATA.yaml: no such file, nor in .*MedleyDB/Metadata; MedleyDB has one for each song",
    ),
    "a missing stem": (
        lambda source: (source / f"{A}_STEMS/Anna_Band_STEM_02.wav").unlink(),
        rf"{A}_STEMS/Anna_Band_STEM_02.wav: no such file; Anna_Band_METADATA.yaml lists it as a stem of the song",
    ),
    "a truncated stem": (
        lambda source: os.truncate(source / f"{A}_STEMS/Anna_Band_STEM_02.wav", 500),
        rf"{A}_STEMS/Anna_Band_STEM_02.wav: is truncated",
    ),
    "metadata that are not YAML": (
        lambda source: (source / f"{A}_METADATA.yaml").write_text("stems: {\n- a\n"),
        r"Anna_Band_METADATA.yaml is not YAML: while parsing",
    ),
    "metadata that are not text": (
        lambda source: (source / f"{A}_METADATA.yaml").write_bytes(b"\xff\x00\x81"),
        r"Anna_Band_METADATA.yaml is not YAML: ",
    ),
    "an empty file": (lambda source: (source / f"{A}_METADATA.yaml").write_text(""), FORM),
    "no stems": (lambda source: (source / f"{A}_METADATA.yaml").write_text("stems: {}"), FORM),
    "a list of stems": (lambda source: (source / f"{A}_METADATA.yaml").write_text("stems: [a.wav]"), FORM),
    "a stem without a file": (
        lambda source: (source / f"{A}_METADATA.yaml").write_text("stems: {S01: {instrument: piano}}"),
        FORM,
    ),
    "raws that are a list": (
        lambda source: (source / f"{A}_METADATA.yaml").write_text("stems: {S01: {filename: a.wav, raw: [piano]}}"),
        FORM,
    ),
    "too few songs": (
        lambda source: [(source / "Audio" / name).rename(source / name) for name in ("Anna_Band", "Dora_Rap")],
        r"MedleyDB holds 2 tracks: 3 or more are needed",
    ),
    "no songs": (
        lambda source: (source / "Audio").rename(source / "audio files"),
        r"MedleyDB holds no Audio/NAME/NAME_STEMS: give the folder that holds Audio",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_errors_in_the_source_are_reported(damage, source):
    act, message = DAMAGES[damage]
    act(source)
    corpus = Medleydb(source)
    with pytest.raises(ValueError, match=message) as error_info:
        [corpus.load(track, 44_100) for track in corpus.tracks(map)]
    assert "\n" not in str(error_info.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="none: no such folder"):
        Medleydb(tmp_path / "none").inputs()
