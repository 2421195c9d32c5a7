"""`separate` with models that give all stems at once: told by labels or a video which are there, or by nothing."""

import json

import jax
import numpy as np
import pytest
import soundfile

from data_pipelines.audio.reading import AudioFile, read_audio, resample
from qsep_jax import separate
from qsep_jax.inference import cues, files, separation
from qsep_jax.runs.bundle import Bundle
from tests.commands import command, refused
from tests.data_pipelines.pictures import write_video
from tests.pieces import ON_LABELS, ON_VIDEO, RATE, STEMS, UNCONDITIONED, write_bundle

SYSTEMS = {"none": UNCONDITIONED, "labelled": ON_LABELS, "seeing": ON_VIDEO}
BOXES = {"violin": [32, 0, 32, 48], "cello": [0, 0, 32, 48]}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: write_bundle(system, folder / name) for name, system in SYSTEMS.items()}


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    """Two channels of 1.5 s at 11 kHz."""
    path = tmp_path_factory.mktemp("sounds") / "mix.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (16_500, 2))
    soundfile.write(path, noise, 11_000, "FLOAT")
    return path


@pytest.fixture(scope="module")
def clip(mix):
    """As long as the mixture, ten pictures a second."""
    pytest.importorskip("av", reason="needs PyAV: pip install 'qsep-jax[video]'")
    (mix.parent / "boxes.json").write_text(json.dumps(BOXES))
    return write_video(mix.parent / "clip.mp4", 15)


def separated(bundle, mix, out, *options):
    """What is written, by name, and the entry of the manifest."""
    assert command(separate, "--model", bundle, mix, "--out", out, *options) == 0
    (entry,) = json.loads((out / "manifest.json").read_text())
    return {path.stem: read_audio(path)[0] for path in sorted((out / "mix").iterdir())}, entry


def expected(bundle, mix, told) -> dict[str, np.ndarray]:
    """All stems, in memory."""
    _, model = Bundle(bundle).load()
    audio, rate = read_audio(mix)
    stems = separation.separate(model, resample(audio, rate, RATE), told(model))
    return {stem: resample(each, RATE, rate)[: len(audio)] for stem, each in zip(STEMS, stems, strict=True)}


def test_labels_say_what_is_there(bundles, mix, tmp_path, capsys):
    found, entry = separated(bundles["labelled"], mix, tmp_path, "--label", "violin", "--label", "cello")
    assert capsys.readouterr().out.startswith("absent by the condition, so silent and not written: bassoon, flute\n")
    assert entry["silent"] == ["bassoon", "flute"]
    assert [output["stem"] for output in entry["separated"][0]["outputs"]] == ["violin", "cello"]
    assert found.keys() == {"violin", "cello"}
    whole = expected(bundles["labelled"], mix, lambda model: cues.from_labels(model, ["cello", "violin"]))
    for stem, audio in found.items():
        np.testing.assert_allclose(audio, whole[stem], atol=1e-6)
    other, _ = separated(bundles["labelled"], mix, tmp_path / "more", *(f"--label={stem}" for stem in STEMS))
    assert not np.allclose(other["violin"], found["violin"], atol=1e-4)


def test_a_model_that_is_told_nothing_writes_all_stems_or_some(bundles, mix, tmp_path, capsys):
    found, entry = separated(bundles["none"], mix, tmp_path / "all")
    assert "absent" not in capsys.readouterr().out
    assert entry["silent"] == []
    assert found.keys() == set(STEMS)
    some, entry = separated(bundles["none"], mix, tmp_path / "some", "--label", "flute")
    assert entry["silent"] == []
    assert some.keys() == {"flute"}
    np.testing.assert_array_equal(some["flute"], found["flute"])


@pytest.mark.parametrize("wiener", [0, 2])
def test_outputs_and_residual_add_up(bundles, mix, tmp_path, wiener):
    """What the network gives to an instrument that is not there is in the residual."""
    options = ("--label", "violin", "--label", "cello", "--residual", "--wiener", wiener)
    found, _ = separated(bundles["labelled"], mix, tmp_path, *options)
    assert found.keys() == {"violin", "cello", "residual"}
    np.testing.assert_allclose(sum(found.values()), read_audio(mix)[0], atol=1e-6)
    assert np.abs(found["residual"]).max() > 0.05


def test_a_video_steers_each_chunk(bundles, mix, clip, tmp_path, capsys):
    boxes = {name: tuple(box) for name, box in BOXES.items()}
    options = ("--video", clip, "--boxes", mix.parent / "boxes.json")
    found, entry = separated(bundles["seeing"], mix, tmp_path / "boxes", *options)
    assert found.keys() == {"cello", "violin"}
    assert entry["silent"] == ["bassoon", "flute"]
    assert "so silent and not written: bassoon, flute" in capsys.readouterr().out
    whole = expected(bundles["seeing"], mix, lambda model: cues.from_video(model, clip, boxes)())
    for stem, audio in found.items():
        np.testing.assert_allclose(audio, whole[stem], atol=1e-6)
    still = expected(bundles["seeing"], mix, lambda model: cues.from_video(model, clip, boxes)()(0))
    assert not np.allclose(still["violin"], whole["violin"], atol=1e-5)
    one, entry = separated(bundles["seeing"], mix, tmp_path / "one", *options, "--label", "violin")
    assert entry["silent"] == ["bassoon", "flute"]
    assert one.keys() == {"violin"}
    np.testing.assert_array_equal(one["violin"], found["violin"])


def test_without_names_in_boxes_all_stems_are_written(bundles, mix, clip, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"left": [0, 0, 32, 48], "right": [32, 0, 32, 48]}))
    for number, more in enumerate(((), ("--boxes", tmp_path / "boxes.json"))):
        found, entry = separated(bundles["seeing"], mix, tmp_path / str(number), "--video", clip, *more)
        assert found.keys() == set(STEMS)
        assert entry["silent"] == []
    (tmp_path / "boxes.json").write_text(json.dumps({"clip": BOXES, "another": {"flute": [0, 0, 1, 1]}}))
    found, _ = separated(bundles["seeing"], mix, tmp_path / "2", "--video", clip, *more)
    assert found.keys() == set(BOXES)


def test_long_files_and_other_formats(bundles, tmp_path):
    """Several files, an MP3 among them; what a file holds depends on none of the others."""
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (200_000, 3))
    soundfile.write(tmp_path / "long.flac", noise, 16_000, "PCM_24")
    soundfile.write(tmp_path / "x.mp3", noise[:30_000, :2], 44_100)
    names, out = (tmp_path / "long.flac", tmp_path / "x.mp3"), tmp_path / "out"
    options = ("--label", "cello", "--clip", "rescale", "--residual", "--out", out)
    assert command(separate, "--model", bundles["none"], *names, *options) == 0
    info = [soundfile.info(out / name) for name in ("long/cello.flac", "x/cello.wav")]
    assert [(each.subtype, each.samplerate, each.channels) for each in info] == [
        ("PCM_24", 16_000, 3),
        ("PCM_16", 44_100, 2),
    ]
    assert info[0].frames == 200_000


def test_many_stems_and_channels_keep_their_places(bundles, tmp_path):
    """Four stems of seven channels pass the resampler side by side."""
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, (9_000, 7)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", noise, 16_000, "FLOAT")
    _, model = Bundle(bundles["none"]).load()
    paths = [tmp_path / f"{stem}.wav" for stem in STEMS]
    files.separate_file(AudioFile(tmp_path / "x.wav"), model, [()], paths)
    whole = separation.separate(model, resample(noise, 16_000, RATE), ())
    for path, stem in zip(paths, jax.device_get(whole), strict=True):
        np.testing.assert_allclose(read_audio(path)[0], resample(stem, RATE, 16_000), atol=1e-6)


def test_mistakes(bundles, run, mix, tmp_path, capsys):
    def wrong(says, name, *options, files=(mix,)):
        model = run if name == "run" else bundles[name]
        refused(capsys, says, separate, "--model", model, *files, "--out", tmp_path / "out", *options)

    known = "of bassoon, cello, flute, violin"
    wrong("unknown label 'vox'; this model knows bassoon, cello, flute, violin", "labelled", "--label", "vox")
    wrong("unknown label 'vox'", "none", "--label", "vox")
    wrong(f"is conditioned on labels: give a label for each instrument that plays, {known}", "labelled")
    wrong("is not conditioned on queries, so it cannot use a query: give labels", "labelled", "--query", mix)
    wrong(
        "is not conditioned on queries, so it cannot use an interpolation: give a video",
        "seeing",
        "--interpolate",
        "a",
        "b",
        "1",
    )
    wrong("is not conditioned on queries, so it cannot use iterations: leave it out", "none", "--iterations", "1")
    wrong("cannot separate by score", "labelled", "--score", mix)
    wrong("is conditioned on video: give a video of the players", "seeing", "--label", "violin")
    for name in ("run", "none", "labelled"):
        wrong("is not conditioned on video: leave the video out", name, "--video", mix, "--label", STEMS[0])
    wrong("boxes are of the players in a video: give the video, too", "seeing", "--boxes", mix)
    wrong("--score is used with a --query alone: leave out --video", "run", "--score", mix, "--video", mix)
    refused(capsys, "no bundled model is conditioned on video: give --model RUN", separate, mix, "--video", mix)
    assert not (tmp_path / "out").exists()


def test_mistakes_with_videos(bundles, mix, clip, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"

    def wrong(says, *options, files=(mix,), video=clip, content=None):
        if content is not None:
            boxes.write_text(json.dumps(content))
        place = ("--out", tmp_path / "out", "--video", video, *(() if content is None else ("--boxes", boxes)))
        refused(capsys, says, separate, "--model", bundles["seeing"], *files, *place, *options)

    import av

    with av.open(str(tmp_path / "empty.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=10).width = 64
    wrong("no.mp4: no such file", video=tmp_path / "no.mp4")
    wrong("empty.mp4", video=tmp_path / "empty.mp4")
    wrong("mix.wav holds no video: give a file with pictures", video=mix)
    wrong("shows the players of one mixture, not of 2", files=(mix, clip.parent / "mix2.wav"))
    wrong("the box [60, 0, 32, 48] of 'cello' (x, y, width, height) is not within", content={"cello": [60, 0, 32, 48]})
    wrong(
        "'voilin' is no instrument of this model, others are", content={"cello": [0, 0, 1, 1], "voilin": [0, 0, 1, 1]}
    )
    wrong("has no boxes of 'clip', but of other", content={"other": {"cello": [0, 0, 1, 1]}})
    wrong("there are 4 players", content={stem: [0, 0, 1, 1] for stem in STEMS})
    wrong("'flute' is in no box of", "--label", "flute", content=BOXES)
    assert not (tmp_path / "out").exists()
