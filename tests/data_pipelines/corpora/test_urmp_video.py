"""`urmp` as in Slizovskaia et al. 2021: merged pieces without duets of one instrument, and frames from the videos."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pictures import number_of, numbered

from data_pipelines import prepare
from data_pipelines.corpora.urmp import Urmp
from data_pipelines.corpora.urmp_video import Strip, find_video
from data_pipelines.prepared import store
from data_pipelines.prepared.corpus import open_corpus
from data_pipelines.video import frames

RATE, FRAME_RATE = 8000, 5.0
PIECES = ("01_Jupiter_vn_vc", "02_Sonata_vn_vn", "32_Fugue_vn_vn_va_vc")
# Published names of all 44 pieces.
PUBLISHED = """
01_Jupiter_vn_vc 02_Sonata_vn_vn 03_Dance_fl_cl 04_Allegro_fl_fl 05_Entertainer_tpt_tpt
06_Entertainer_sax_sax 07_GString_tpt_tbn 08_Spring_fl_vn 09_Jesus_tpt_vn 10_March_tpt_sax 11_Maria_ob_vc
12_Spring_vn_vn_vc 13_Hark_vn_vn_va 14_Waltz_fl_fl_cl 15_Surprise_tpt_tpt_tbn 16_Surprise_tpt_tpt_sax
17_Nocturne_vn_fl_cl 18_Nocturne_vn_fl_tpt 19_Pavane_cl_vn_vc 20_Pavane_tpt_vn_vc 21_Rejouissance_cl_tbn_tba
22_Rejouissance_sax_tbn_tba 23_Rejouissance_cl_sax_tba 24_Pirates_vn_vn_va_vc 25_Pirates_vn_vn_va_sax
26_King_vn_vn_va_vc 27_King_vn_vn_va_sax 28_Fugue_fl_ob_cl_bn 29_Fugue_fl_fl_ob_cl 30_Fugue_fl_fl_ob_sax
31_Slavonic_tpt_tpt_hn_tbn 32_Fugue_vn_vn_va_vc 33_Elise_tpt_tpt_hn_tbn 34_Fugue_tpt_tpt_hn_tbn
35_Rondeau_vn_vn_va_db 36_Rondeau_vn_vn_va_vc 37_Rondeau_fl_vn_va_cl 38_Jerusalem_vn_vn_va_vc_db
39_Jerusalem_vn_vn_va_sax_db 40_Miserere_fl_fl_ob_cl_bn 41_Miserere_fl_fl_ob_sax_bn
42_Arioso_tpt_tpt_hn_tbn_tba 43_Chorale_tpt_tpt_hn_tbn_tba 44_K515_vn_vn_va_va_vc
"""
# Each player occupies a column of the frame, 64 pixels wide.
WIDTH, HEIGHT = 64, 48


def write_piece(source: Path, piece: str) -> None:
    (folder := source / piece).mkdir(parents=True)
    number_and_song = "_".join(piece.split("_")[:2])
    tags = piece.split("_")[2:]
    for number, tag in enumerate(tags, start=1):
        audio = 0.2 * np.random.default_rng(number).uniform(-1, 1, 2 * RATE)
        soundfile.write(folder / f"AuSep_{number}_{tag}_{number_and_song}.wav", audio, RATE)
        (folder / f"Notes_{number}_{tag}_{number_and_song}.txt").write_text("0.5\t440.0\t0.4\n")
    _write_video(folder / f"Vid_{piece}.mp4", len(tags))


def _write_video(path: Path, players: int) -> None:
    """Write two seconds with ten frames per second; frame i of player p encodes the number 40 p + i."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = HEIGHT, WIDTH * players, "yuv420p", 8_000_000
        for number in range(20):
            image = np.concatenate([numbered(40 * player + number) for player in range(players)], axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


def box(player: int) -> list[int]:
    return [WIDTH * player, 0, WIDTH, HEIGHT]


BOXES = {
    "01_Jupiter_vn_vc": {"violin": box(0), "cello": box(1)},
    "02_Sonata_vn_vn": {"AuSep_1_vn_02_Sonata": box(0), "AuSep_2_vn_02_Sonata": box(1)},
    "32_Fugue_vn_vn_va_vc": {"violin": box(0), "AuSep_2_vn_32_Fugue": box(1), "viola": box(2), "cello": box(3)},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("urmp")
    for piece in PIECES:
        write_piece(source, piece)
    (source / "boxes.json").write_text(json.dumps(BOXES))
    return source


@pytest.fixture
def source(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "urmp")


def urmp(source: Path, **fields) -> Urmp:
    defaults = {"shifts": 0, "frame_rate": FRAME_RATE, "frame_size": 32, "boxes": source / "boxes.json"}
    return Urmp(source, **{**defaults, **fields})


def test_the_test_split_has_all_pieces_and_no_merged_duets_of_one_instrument(written):
    assert [(track.name, track.split) for track in Urmp(written, merged=True, split="test").tracks(map)] == [
        ("01_Jupiter_vn_vc", "test"),
        ("32_Fugue_vn_vn_va_vc", "test"),
    ]
    assert len(Urmp(written, merged=True).tracks(map)) == 3
    players = Urmp(written, split="test").tracks(map)
    assert [track.split for track in players] == ["test"] * 8
    # Test stems have no variants.
    assert [len(Urmp(written, shifts=1, split="test").load(track, RATE)) for track in players] == [1] * 8


def test_forty_of_the_published_pieces_remain(tmp_path):
    names = PUBLISHED.split()
    assert len(names) == 44
    for name in names:
        (folder := tmp_path / name).mkdir()
        song = "_".join(name.split("_")[:2])
        for number, tag in enumerate(name.split("_")[2:], start=1):
            (folder / f"AuSep_{number}_{tag}_{song}.wav").touch()
            (folder / f"Notes_{number}_{tag}_{song}.txt").touch()
    names_left = {track.name for track in Urmp(tmp_path, merged=True, split="test").tracks(map)}
    assert len(names_left) == 40
    assert {name[:2] for name in set(names) - names_left} == {"02", "04", "05", "06"}


def test_frames_are_cropped_from_the_video_of_the_piece(written):
    corpus = urmp(written)
    tracks = {track.name: track for track in corpus.tracks(map)}
    for name, column in (
        ("AuSep_1_vn_01_Jupiter", 0),
        ("AuSep_2_vc_01_Jupiter", 1),
        ("AuSep_2_vn_02_Sonata", 1),
        ("AuSep_1_vn_32_Fugue", 0),
        ("AuSep_4_vc_32_Fugue", 3),
    ):
        (stem,) = corpus.load(tracks[name], RATE)
        assert stem.frame_rate == FRAME_RATE
        images = [frames.decode(frame, 32, "") for frame in stem.frames]
        assert [number_of(image) for image in images] == [40 * column + 2 * step for step in range(10)]


def test_merged_players_have_the_frames_of_the_first(written, tmp_path):
    prepare.build(urmp(written, merged=True, split="test"), tmp_path, sample_rate=RATE, workers=1)
    corpus = open_corpus(tmp_path, "urmp", RATE, "test")
    for stem, column in (("violin", 0), ("viola", 2), ("cello", 3)):
        images = corpus.frames("32_Fugue_vn_vn_va_vc", stem, np.array([0.0, 0.6, 5.0]), 32)
        assert [number_of(image) for image in images] == [40 * column, 40 * column + 6, 40 * column + 18]


def test_variants_have_no_frames(written):
    corpus = urmp(written, shifts=1)
    track = corpus.tracks(map)[0]
    assert [(stem.name, bool(stem.frames)) for stem in corpus.load(track, RATE)] == [
        ("violin", True),
        ("violin@-1", False),
        ("violin@+1", False),
    ]


def test_the_box_of_an_instrument_is_that_of_its_first_player(source):
    """This also holds when a player is loaded alone."""
    boxes("32_Fugue_vn_vn_va_vc", AuSep_2_vn_32_Fugue=None)(source)
    corpus = urmp(source)
    first, second = (track for track in corpus.tracks(map) if "_vn_32" in track.name)
    assert corpus.load(first, RATE)[0].frames
    with pytest.raises(ValueError, match="no box of AuSep_2_vn_32_Fugue"):
        corpus.load(second, RATE)


def test_videos_are_read_only_if_frames_are_requested(source):
    for piece in PIECES:
        find_video(source / piece).unlink()
    corpus = Urmp(source, shifts=0)
    corpus.inputs()
    assert all(not stem.frames for track in corpus.tracks(map) for stem in corpus.load(track, RATE))


def test_a_frame_size_of_zero_keeps_the_size(written):
    corpus = urmp(written, frame_size=0)
    (stem,) = corpus.load(corpus.tracks(map)[0], RATE)
    assert frames.decode(stem.frames[0], 64, "").shape == (64, 64, 3)
    assert number_of(frames.decode(stem.frames[3], 64, "")) == 6


def test_corpora_prepared_before_these_options_stay_valid(written):
    corpus = Urmp(written, shifts=0)
    options = {"source": str(written), "shifts": "0", "merged": "False"}
    content = [1, "urmp", 1, RATE, 1.5, options, corpus.inputs()]
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert store.fingerprint(corpus, RATE) == before
    assert store.fingerprint(Urmp(written, shifts=0, split="test"), RATE) != before
    assert store.fingerprint(urmp(written), RATE) != before


def test_players_have_equal_strips_without_boxes(written):
    """They stand from left to right in the order of their numbers, as in the boxes of this file."""
    for merged in (False, True):
        by_hand, strips = urmp(written, merged=merged), urmp(written, merged=merged, boxes=None)
        for track in strips.tracks(map):
            expected = [stem.frames for stem in by_hand.load(track, RATE)]
            assert [stem.frames for stem in strips.load(track, RATE)] == expected
            assert all(expected)
    assert len(urmp(written, boxes=None).inputs()) == len(urmp(written).inputs()) - 1


def test_strips_cover_a_picture_whose_width_is_no_multiple():
    strips = [Strip(place, 3).to_box(np.zeros((48, 100, 3))) for place in range(3)]
    assert strips == [(0, 0, 33, 48), (33, 0, 33, 48), (66, 0, 34, 48)]


def test_a_changed_video_or_file_of_boxes_is_a_changed_input(source):
    before = urmp(source).inputs()
    assert len(before) == 2 * 8 + 3 + 1
    with find_video(source / PIECES[0]).open("ab") as file:
        file.write(b"\0" * 8)
    with_other_video = urmp(source).inputs()
    assert with_other_video != before
    (source / "boxes.json").write_text(json.dumps(BOXES) + " ")
    assert urmp(source).inputs() != with_other_video


def boxes(piece: str, **changed):
    def change(source: Path):
        content = json.loads((source / "boxes.json").read_text())
        content[piece] = {name: position for name, position in {**content[piece], **changed}.items() if position}
        (source / "boxes.json").write_text(json.dumps(content))

    return change


def no_frame(source: Path) -> None:
    """Replace the video by one without a video stream."""
    import av

    with av.open(str(find_video(source / PIECES[0])), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        (sound := av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")).rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


DAMAGES = {
    "a video without a frame": (no_frame, r"Vid_01_Jupiter_vn_vc.mp4 holds no video"),
    "no video": (
        lambda source: find_video(source / PIECES[0]).unlink(),
        r"01_Jupiter_vn_vc holds 0 videos: frames need exactly one, Vid_01_Jup",
    ),
    "a damaged video": (
        lambda source: find_video(source / PIECES[0]).write_bytes(b"text" * 100),
        r"Vid_01_Jupiter_vn_vc.mp4 cannot be decoded",
    ),
    "a box outside the frame": (
        boxes("01_Jupiter_vn_vc", cello=[100, 0, 64, 48]),
        r"the box \[100, 0, 64, 48\] of AuSep_2_vc_01_Jupiter in Vid_01_Jupiter_vn_vc.mp4 "
        r".* frame, which has 128 × 48 pixels",
    ),
    "no box": (
        boxes("01_Jupiter_vn_vc", cello=None),
        r"no box of AuSep_2_vc_01_Jupiter \(cello\) in '01_Jupiter_vn_vc', only of violin: add",
    ),
    "no box of the second violin": (
        boxes("32_Fugue_vn_vn_va_vc", AuSep_2_vn_32_Fugue=None),
        r"no box of AuSep_2_vn_32_Fugue \(violin\) in '32_Fugue_vn_vn_va_vc', only of violin, viola, cello",
    ),
    "no file of boxes": (lambda source: (source / "boxes.json").unlink(), "boxes.json: no such file"),
}


def load_all(corpus):
    corpus.inputs()
    for track in corpus.tracks(map):
        corpus.load(track, RATE)


@pytest.mark.parametrize("damage", DAMAGES)
def test_errors_in_the_source_are_reported(damage, source):
    act, message = DAMAGES[damage]
    act(source)
    corpus = urmp(source)
    with pytest.raises(ValueError, match=message):
        load_all(corpus)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_rate": -1.0}, "--frame-rate -1 .* must not be negative"),
        ({"frame_size": -1}, "--frame-size -1 must not be negative"),
    ],
)
def test_options_that_are_refused(fields, message, written):
    with pytest.raises(ValueError, match=message):
        urmp(written, **fields).inputs()
