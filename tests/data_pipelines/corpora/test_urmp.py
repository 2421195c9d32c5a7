"""`urmp`: the published layout with its misnamed files, and the published lists of Lin et al. 2021."""

import csv
import shutil
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
from signals import band_level, pitch, tone

from data_pipelines import prepare
from data_pipelines.corpora import pitch_shift, urmp
from data_pipelines.corpora.urmp import Urmp, read_notes, split_of
from data_pipelines.corpora.urmp_lin2021 import published_pairs, published_train_tracks
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.schema import INSTRUMENTS, SEEN_INSTRUMENTS, UNSEEN_INSTRUMENTS

URMP_RATE, RATE = 48_000, 8000
PIECES = ("01_Jupiter_vn_vc", "02_Sonata_vn_vn", "11_Maria_ob_vc", "15_Surprise_tpt_tpt_tbn", "32_Fugue_vn_vn_va_vc")


def midi(frequency: float) -> float:
    return 69 + 12 * np.log2(frequency / 440)


def frequency(piece: str, number: int) -> float:
    """The frequency (Hz) of a player: a semitone per piece and a fourth per player, detuned by 20 cents."""
    return 220.0 * 2 ** ((PIECES.index(piece) + 5 * number + 0.2) / 12)


def write_piece(source: Path, piece: str) -> Path:
    """Write a tone of 1 s and two notes for each player, a tone of 1.1 s for the second, and noise as the mixture."""
    (folder := source / piece).mkdir(parents=True)
    number_and_song = "_".join(piece.split("_")[:2])
    for number, tag in enumerate(piece.split("_")[2:], start=1):
        tag = "tbt" if piece.startswith("15") and tag == "tbn" else tag
        hertz = frequency(piece, number)
        audio = tone(hertz, 1.1 if number == 2 else 1.0, URMP_RATE, level=0.2)
        soundfile.write(folder / f"AuSep_{number}_{tag}_{number_and_song}.wav", audio, URMP_RATE)
        rows = [(0.5, hertz * 2, 0.4), (0.05 * number, hertz, 0.4)]
        lines = "".join(f"{onset:.3f}\t\t{pitch:.3f}\t\t{duration:.3f}\n" for onset, pitch, duration in rows)
        (folder / f"Notes_{number}_{tag}_{number_and_song}.txt").write_text(lines + "\n")
    noise = np.random.default_rng(0).uniform(-1, 1, 4800)
    soundfile.write(folder / f"AuMix_{piece}.wav", noise, URMP_RATE)
    (folder / f"Sco_{piece}.mid").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("urmp")
    for piece in PIECES:
        write_piece(source, piece)
    (source / "Supplementary_Files").mkdir()
    (source / "README.txt").write_text("")
    return source


@pytest.fixture
def source(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "urmp")


@pytest.fixture(scope="module")
def prepared(written, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    prepare.build(Urmp(written, shifts=1), root, sample_rate=RATE, workers=1)
    return root


def test_a_track_is_a_player(written):
    tracks = Urmp(written).tracks(map)
    assert [(track.name, track.split) for track in tracks] == [
        ("AuSep_1_vn_01_Jupiter", "train"),
        ("AuSep_2_vc_01_Jupiter", "train"),
        ("AuSep_1_vn_02_Sonata", "train"),
        ("AuSep_2_vn_02_Sonata", "train"),
        ("AuSep_1_tpt_15_Surprise", "train"),
        ("AuSep_2_tpt_15_Surprise", "train"),
        ("AuSep_3_tbn_15_Surprise", "train"),
        ("AuSep_1_ob_11_Maria", "test"),
        ("AuSep_2_vc_11_Maria", "test"),
        ("AuSep_1_vn_32_Fugue", "test"),
        ("AuSep_2_vn_32_Fugue", "test"),
        ("AuSep_3_va_32_Fugue", "test"),
        ("AuSep_4_vc_32_Fugue", "test"),
    ]
    assert Urmp(written).sample_rate() == 44_100


def test_the_prepared_corpus(prepared):
    """Only training stems have variants, the default view excludes them, and the misnamed trombone is present."""
    train = open_corpus(prepared, "urmp", RATE, "train")
    assert train.stems == ("cello", "trombone", "trumpet", "violin")
    assert train.tracks("trombone") == ("AuSep_3_tbn_15_Surprise",)
    assert train.tracks("violin") == ("AuSep_1_vn_01_Jupiter", "AuSep_1_vn_02_Sonata", "AuSep_2_vn_02_Sonata")
    assert {row.stem for row in train.metadata.index["train"] if row.parent} == {
        f"{name}@{shift}" for name in train.stems for shift in ("-1", "+1")
    }
    test = open_corpus(prepared, "urmp", RATE, "test")
    assert {row.stem for row in test.metadata.index["test"]} == {"cello", "oboe", "viola", "violin"}
    assert list(train.metadata.index) == ["train", "test"]


@pytest.mark.parametrize(("stem", "semitones"), [("violin", 0), ("violin@+1", 1), ("violin@-1", -1)])
def test_audio_and_notes_are_stored(stem, semitones, prepared):
    corpus = open_corpus(prepared, "urmp", RATE, "train", {stem: (stem,)})
    hertz = frequency("02_Sonata_vn_vn", 2)
    track = "AuSep_2_vn_02_Sonata"
    assert corpus.length(track, stem) == round(1.1 * RATE)
    audio = corpus.read(corpus.draw(np.random.default_rng(0), stem, RATE, without="AuSep_1_vn_02_Sonata"))
    assert audio.shape == (RATE, 1)
    assert pitch(audio, RATE) == pytest.approx(hertz * 2 ** (semitones / 12), rel=0.01)
    notes = corpus.notes(track, stem)
    np.testing.assert_allclose(notes[:, :2], [[0.1, 0.5], [0.5, 0.9]], atol=1e-6)
    low = round(midi(hertz)) + semitones
    assert notes[:, 2].tolist() == [low, low + 12]


def test_each_track_has_the_audio_of_its_player(written):
    for track in Urmp(written, shifts=0).tracks(map):
        piece = next(piece for piece in PIECES if piece.startswith("_".join(track.name.split("_")[3:])))
        (stem,) = Urmp(written, shifts=0).load(track, RATE)
        number = int(track.name.split("_")[1])
        assert pitch(stem.audio, RATE) == pytest.approx(frequency(piece, number), abs=1)
        assert stem.audio.dtype == np.int16
        assert np.abs(stem.audio[800:-800]).max() == pytest.approx(0.2 * 32768, rel=0.02)


def test_merged_pieces_sum_players_of_one_instrument(written):
    corpus = Urmp(written, shifts=0, merged=True)
    tracks = {track.name: track for track in corpus.tracks(map)}
    assert set(tracks) == set(PIECES)
    stems = {name: corpus.load(track, RATE) for name, track in tracks.items()}
    assert [stem.name for stem in stems["15_Surprise_tpt_tpt_tbn"]] == ["trumpet", "trombone"]
    for loaded in stems.values():
        assert {stem.audio.shape for stem in loaded} == {(round(1.1 * RATE), 1)}
    (violins,) = stems["02_Sonata_vn_vn"]
    single = Urmp(written, shifts=0)
    first, second = (single.load(track, RATE)[0].audio[:, 0] for track in single.tracks(map) if "Sonata" in track.name)
    np.testing.assert_allclose(violins.audio[: len(first), 0], first + second[: len(first)], atol=2)
    np.testing.assert_allclose(violins.audio[len(first) :, 0], second[len(first) :], atol=2)
    np.testing.assert_allclose(violins.notes[:, 0], [0.05, 0.1, 0.5, 0.5])


@pytest.mark.parametrize(("rate", "merged"), [(16_000, False), (8000, True)])
def test_variants_are_made_from_the_original_audio(rate, merged, source):
    """White noise at 48 kHz instead of the players: a variant has no hole at the top, and the level of its stem."""
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(0.0, 0.05, 4 * URMP_RATE)
        soundfile.write(source / f"02_Sonata_vn_vn/AuSep_{number}_vn_02_Sonata.wav", noise, URMP_RATE)
    corpus = Urmp(source, merged=merged)
    stem, *variants = corpus.load(next(track for track in corpus.tracks(map) if "Sonata" in track.name), rate)
    assert len(variants) == 8
    middle, top = (1000, 3000), (0.4 * rate, 0.45 * rate)
    for variant in variants:
        assert band_level(variant.audio, rate, *top) == pytest.approx(
            band_level(variant.audio, rate, *middle), abs=1.0
        ), variant.name
        assert band_level(variant.audio, rate, *middle) == pytest.approx(
            band_level(stem.audio, rate, *middle), abs=6.0
        ), variant.name


def test_merged_pieces_have_variants_too(written):
    corpus = Urmp(written, shifts=1, merged=True)
    track = next(track for track in corpus.tracks(map) if track.name == "01_Jupiter_vn_vc")
    assert [(stem.name, stem.parent) for stem in corpus.load(track, RATE)] == [
        ("violin", ""),
        ("cello", ""),
        ("violin@-1", "violin"),
        ("violin@+1", "violin"),
        ("cello@-1", "cello"),
        ("cello@+1", "cello"),
    ]


def test_a_changed_note_file_is_a_changed_input(source):
    before = Urmp(source).inputs()
    assert len(before) == 2 * 13 + len(pitch_shift.inputs(4))
    assert len(Urmp(source, shifts=0).inputs()) == 2 * 13
    with (source / "01_Jupiter_vn_vc" / "Notes_1_vn_01_Jupiter.txt").open("a") as file:
        file.write("0.95\t\t440\t\t0.01\n")
    assert Urmp(source).inputs() != before


@pytest.mark.parametrize("renamed", ["AuSep_3_{}_15_Surprise.wav", "Notes_3_{}_15_Surprise.txt"])
def test_one_of_the_misnamed_files_may_have_been_renamed(renamed, source):
    folder = source / "15_Surprise_tpt_tpt_tbn"
    (folder / renamed.format("tbt")).rename(folder / renamed.format("tbn"))
    assert "AuSep_3_tbn_15_Surprise" in [track.name for track in Urmp(source).tracks(map)]


def rename(old: str, new: str):
    return lambda source: (source / old).rename(source / new)


AUDIO, NOTES = "01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav", "01_Jupiter_vn_vc/Notes_1_vn_01_Jupiter.txt"
DAMAGES = {
    "no notes": (
        lambda source: (source / NOTES).unlink(),
        rf"{AUDIO} needs one Notes_1_vn_01_Jupiter.txt beside it; present: none$",
    ),
    "two files of notes": (
        lambda source: shutil.copy(source / NOTES, source / NOTES.replace("_vn_01", "_va_01")),
        r"; present: Notes_1_va_01_Jupiter.txt, Notes_1_vn_01_Jupiter.txt$",
    ),
    "a missing player": (
        lambda source: (source / AUDIO).unlink(),
        r"vn_vc holds 1 files AuSep_\*.wav, but the piece has 2 players: fetch",
    ),
    "an unknown instrument": (
        rename(AUDIO, AUDIO.replace("_vn_01", "_kazoo_01")),
        r"AuSep_1_kazoo_01_Jupiter.wav: 'kazoo' is not an instrument of URMP; rename it to one of bn, cl, .*, vn",
    ),
    "an unknown instrument of a folder": (
        rename("02_Sonata_vn_vn", "02_Sonata_vn_kazoo"),
        r"02_Sonata_vn_kazoo: 'kazoo' is not an instrument",
    ),
    "a name of another form": (
        rename(AUDIO, "01_Jupiter_vn_vc/AuSep_violin.wav"),
        r"AuSep_violin.wav is not named as in URMP, AuSep_1_vn_01_Jupiter.wav: restore its name",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_errors_in_a_piece_are_reported(damage, source):
    change, message = DAMAGES[damage]
    change(source)
    with pytest.raises(ValueError, match=message):
        Urmp(source).tracks(map)


def test_sources_and_options_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none: no such folder"):
        Urmp(tmp_path / "none").tracks(map)
    (tmp_path / "Supplementary_Files").mkdir()
    with pytest.raises(ValueError, match=r"holds no piece of URMP, such as 01_Jupiter_vn_vc: give the"):
        Urmp(tmp_path).inputs()
    write_piece(tmp_path, PIECES[0])
    with pytest.raises(ValueError, match=r"--shifts 99 is outside 0 to 12"):
        Urmp(tmp_path, shifts=99).inputs()


def test_notes_are_rounded_to_semitones(tmp_path):
    path = tmp_path / "Notes.txt"
    path.write_text("1.5\t\t452.0\t\t0.25\r\n\r\n 2 \t 27.5\t\t0\n")
    np.testing.assert_allclose(read_notes(path), [[1.5, 1.75, 69.0], [2.0, 2.0, 21.0]])
    path.write_text("0 453.0 1\n0 427.5 1\n0 427.4 1\n")
    assert read_notes(path)[:, 2].tolist() == [70, 69, 68]


@pytest.mark.parametrize(
    "line", ["1.0\t440", "1.0 440 1.0 1.0", "1.0 A4 1.0", "-1 440 1", "1 0 1", "1 440 -1", "nan 1 1"]
)
def test_lines_that_are_not_notes(line, tmp_path):
    path = tmp_path / "Notes_1_vn_01_Jupiter.txt"
    path.write_text(f"0.0\t\t440\t\t1.0\n{line}\n")
    with pytest.raises(ValueError, match=rf"Notes_1_vn_01_Jupiter.txt, line 2: '{line}' is not onset in s, .*repair"):
        read_notes(path)


def test_a_file_without_notes(tmp_path):
    (path := tmp_path / "Notes.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"Notes.txt holds no notes: fetch"):
        read_notes(path)


def test_tags_are_the_13_instruments():
    assert sorted(urmp.TAGS.values()) == sorted(INSTRUMENTS) == sorted(SEEN_INSTRUMENTS + UNSEEN_INSTRUMENTS)


def test_published_pairs():
    pairs = published_pairs()
    assert len(pairs) == 32
    sources = [(pair.instrument_a, pair.track_a, pair.query_track_a) for pair in pairs]
    sources += [(pair.instrument_b, pair.track_b, pair.query_track_b) for pair in pairs]
    counts = Counter(instrument for instrument, _, _ in sources)
    assert counts == {
        "trumpet": 12,
        "violin": 7,
        "saxophone": 6,
        "trombone": 6,
        "clarinet": 5,
        "flute": 5,
        "horn": 5,
        "cello": 4,
        "oboe": 4,
        "tuba": 3,
        "viola": 3,
        "bassoon": 2,
        "double_bass": 2,
    }
    assert sum(counts[name] for name in SEEN_INSTRUMENTS) == 48
    assert sum(counts[name] for name in UNSEEN_INSTRUMENTS) == 16
    for instrument, track, query in sources:
        assert urmp.TAGS[track.split("_")[2]] == urmp.TAGS[query.split("_")[2]] == instrument
        assert track.split("_")[-1] != query.split("_")[-1]
    for pair in pairs:
        assert pair.track_a.split("_")[-1] == pair.track_b.split("_")[-1]
        assert pair.instrument_a != pair.instrument_b


def test_published_train_tracks():
    tracks = published_train_tracks()
    assert len(tracks) == 55
    assert Counter(tracks.values()) == {
        "violin": 16,
        "trumpet": 9,
        "flute": 7,
        "cello": 6,
        "saxophone": 6,
        "viola": 5,
        "clarinet": 4,
        "trombone": 2,
    }
    assert all(urmp.TAGS[track.split("_")[2]] == instrument for track, instrument in tracks.items())


def test_only_the_published_training_tracks_are_prepared(written, monkeypatch):
    kept = {"AuSep_1_vn_01_Jupiter": "violin", "AuSep_3_tbn_15_Surprise": "trombone"}
    monkeypatch.setattr(urmp, "published_train_tracks", lambda: kept)
    tracks = Urmp(written, training_tracks="published").tracks(map)
    assert {track.name for track in tracks if track.split == "train"} == set(kept)
    every_track = Urmp(written).tracks(map)
    assert [track for track in tracks if track.split == "test"] == [
        track for track in every_track if track.split == "test"
    ]
    assert store.fingerprint(Urmp(written, training_tracks="published"), RATE) != store.fingerprint(Urmp(written), RATE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "lacks 48 of the 55 published training tracks, first AuSep_1_cl_19_Pavane"),
        ({"merged": True}, "leave out --merged and --split"),
        ({"split": "test"}, "leave out --merged and --split"),
    ],
)
def test_published_tracks_that_are_missing_or_contradict_other_options(options, message, written):
    with pytest.raises(ValueError, match=message):
        Urmp(written, training_tracks="published", **options).tracks(map)


def published_pieces(name: str) -> set[str]:
    """The pieces of a published list, after checking that each piece has the track of its row."""
    pieces = set()
    text = resources.files("data_pipelines.corpora").joinpath(name).read_text()
    for row in csv.DictReader(text.splitlines()):
        for field in (field for field in row if "piece" in field):
            piece, (_, number, tag, *song) = row[field], row[field.replace("piece", "track")].split("_")
            assert piece.split("_")[:2] == song
            assert piece.split("_")[int(number) + 1] == tag
            pieces.add(piece)
    return pieces


def test_the_split_is_that_of_the_published_lists():
    train, test = published_pieces("urmp_lin2021_train.csv"), published_pieces("urmp_lin2021.csv")
    assert len(train) + len(test) == 44
    assert {split_of(piece) for piece in train} == {"train"}
    assert {split_of(piece) for piece in test} == {"test"}
    # Test songs are those with an unseen instrument in any arrangement.
    unseen = {tag for tag, instrument in urmp.TAGS.items() if instrument in UNSEEN_INSTRUMENTS}
    songs = {piece.split("_")[1] for piece in train | test if unseen.intersection(piece.split("_")[2:])}
    assert songs == urmp.TEST_SONGS
    assert split_of("45_New_vn_hn") == "test"
