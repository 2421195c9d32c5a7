"""`separate` with models that estimate all stems at once, conditioned on labels, on a video, or on nothing."""

import json

import jax
import numpy as np
import pytest
import soundfile

from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.samples import resample
from qsep_jax import separate
from qsep_jax.inference import cues, files, separation
from qsep_jax.runs.bundle import Bundle
from tests.commands import command, refused
from tests.data_pipelines.pictures import write_video
from tests.pieces import ON_LABELS, ON_VIDEO, RATE, STEMS, UNCONDITIONED, write_bundle

SYSTEMS = {"unconditioned": UNCONDITIONED, "labels": ON_LABELS, "video": ON_VIDEO}
BOXES = {"violin": [32, 0, 32, 48], "cello": [0, 0, 32, 48]}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: write_bundle(system, folder / name) for name, system in SYSTEMS.items()}


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    """A mixture of two channels and 1.5 s at 11 kHz."""
    path = tmp_path_factory.mktemp("sounds") / "mix.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (16_500, 2))
    soundfile.write(path, noise, 11_000, "FLOAT")
    return path


@pytest.fixture(scope="module")
def clip(mix):
    """A video as long as the mixture, with ten frames per second."""
    (mix.parent / "boxes.json").write_text(json.dumps(BOXES))
    return write_video(mix.parent / "clip.mp4", 15)


def separated(bundle, mix, out, *options):
    """Run the command: the written stems by name, and the entry of the manifest."""
    assert command(separate, "--model", bundle, mix, "--out", out, *options) == 0
    (entry,) = json.loads((out / "manifest.json").read_text())
    return {path.stem: read_audio(path)[0] for path in sorted((out / "mix").iterdir())}, entry


def expected(bundle, mix, condition_of) -> dict[str, np.ndarray]:
    """All stems, separated in memory."""
    _, model = Bundle(bundle).load()
    audio, rate = read_audio(mix)
    stems = separation.separate(model, resample(audio, rate, RATE), condition_of(model))
    return {stem: resample(part, RATE, rate)[: len(audio)] for stem, part in zip(STEMS, stems, strict=True)}


def test_labels_select_the_stems(bundles, mix, tmp_path, capsys):
    stems, entry = separated(bundles["labels"], mix, tmp_path, "--label", "violin", "--label", "cello")
    assert capsys.readouterr().out.startswith("absent by the condition, so silent and not written: bassoon, flute\n")
    assert entry["silent"] == ["bassoon", "flute"]
    assert [output["stem"] for output in entry["separated"][0]["outputs"]] == ["violin", "cello"]
    assert stems.keys() == {"violin", "cello"}
    in_memory = expected(bundles["labels"], mix, lambda model: cues.from_labels(model, ["cello", "violin"]))
    for stem, audio in stems.items():
        np.testing.assert_allclose(audio, in_memory[stem], atol=1e-6)
    other, _ = separated(bundles["labels"], mix, tmp_path / "more", *(f"--label={stem}" for stem in STEMS))
    assert not np.allclose(other["violin"], stems["violin"], atol=1e-4)


def test_an_unconditioned_model_writes_all_stems_or_some(bundles, mix, tmp_path, capsys):
    stems, entry = separated(bundles["unconditioned"], mix, tmp_path / "all")
    assert "absent" not in capsys.readouterr().out
    assert entry["silent"] == []
    assert stems.keys() == set(STEMS)
    some, entry = separated(bundles["unconditioned"], mix, tmp_path / "some", "--label", "flute")
    assert entry["silent"] == []
    assert some.keys() == {"flute"}
    np.testing.assert_array_equal(some["flute"], stems["flute"])


@pytest.mark.parametrize("wiener", [0, 2])
def test_outputs_and_residual_add_up(bundles, mix, tmp_path, wiener):
    """The estimates of absent instruments are part of the residual."""
    options = ("--label", "violin", "--label", "cello", "--residual", "--wiener", wiener)
    outputs, _ = separated(bundles["labels"], mix, tmp_path, *options)
    assert outputs.keys() == {"violin", "cello", "residual"}
    np.testing.assert_allclose(sum(outputs.values()), read_audio(mix)[0], atol=1e-6)
    assert np.abs(outputs["residual"]).max() > 0.05


def test_a_video_conditions_each_chunk(bundles, mix, clip, tmp_path, capsys):
    boxes = {name: tuple(box) for name, box in BOXES.items()}
    options = ("--video", clip, "--boxes", mix.parent / "boxes.json")
    stems, entry = separated(bundles["video"], mix, tmp_path / "boxes", *options)
    assert stems.keys() == {"cello", "violin"}
    assert entry["silent"] == ["bassoon", "flute"]
    assert "so silent and not written: bassoon, flute" in capsys.readouterr().out
    in_memory = expected(bundles["video"], mix, lambda model: cues.from_video(model, clip, boxes)())
    for stem, audio in stems.items():
        np.testing.assert_allclose(audio, in_memory[stem], atol=1e-6)
    constant = expected(bundles["video"], mix, lambda model: cues.from_video(model, clip, boxes)()(0))
    assert not np.allclose(constant["violin"], in_memory["violin"], atol=1e-5)
    one, entry = separated(bundles["video"], mix, tmp_path / "one", *options, "--label", "violin")
    assert entry["silent"] == ["bassoon", "flute"]
    assert one.keys() == {"violin"}
    np.testing.assert_array_equal(one["violin"], stems["violin"])


def test_boxes_that_are_not_named_by_stems_give_all_stems(bundles, mix, clip, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"left": [0, 0, 32, 48], "right": [32, 0, 32, 48]}))
    for number, more in enumerate(((), ("--boxes", tmp_path / "boxes.json"))):
        stems, entry = separated(bundles["video"], mix, tmp_path / str(number), "--video", clip, *more)
        assert stems.keys() == set(STEMS)
        assert entry["silent"] == []
    (tmp_path / "boxes.json").write_text(json.dumps({"clip": BOXES, "another": {"flute": [0, 0, 1, 1]}}))
    stems, _ = separated(bundles["video"], mix, tmp_path / "2", "--video", clip, *more)
    assert stems.keys() == set(BOXES)


def test_long_files_and_other_formats(bundles, tmp_path):
    """Several files, one of them an MP3, in one call; the format of each output depends on its own input."""
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (200_000, 3))
    soundfile.write(tmp_path / "long.flac", noise, 16_000, "PCM_24")
    soundfile.write(tmp_path / "x.mp3", noise[:30_000, :2], 44_100)
    names, out = (tmp_path / "long.flac", tmp_path / "x.mp3"), tmp_path / "out"
    options = ("--label", "cello", "--clip", "rescale", "--residual", "--out", out)
    assert command(separate, "--model", bundles["unconditioned"], *names, *options) == 0
    info = [soundfile.info(out / name) for name in ("long/cello.flac", "x/cello.mp3")]
    assert [(item.subtype, item.samplerate, item.channels) for item in info] == [
        ("PCM_24", 16_000, 3),
        ("MPEG_LAYER_III", 44_100, 2),
    ]
    assert info[0].frames == 200_000


def test_many_stems_and_channels_keep_their_order(bundles, tmp_path):
    """Four stems of seven channels are resampled as 28 channels."""
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, (9_000, 7)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", noise, 16_000, "FLOAT")
    _, model = Bundle(bundles["unconditioned"]).load()
    paths = [tmp_path / f"{stem}.wav" for stem in STEMS]
    files.separate_file(AudioFile(tmp_path / "x.wav"), model, [()], paths)
    in_memory = separation.separate(model, resample(noise, 16_000, RATE), ())
    for path, stem in zip(paths, jax.device_get(in_memory), strict=True):
        np.testing.assert_allclose(read_audio(path)[0], resample(stem, RATE, 16_000), atol=1e-6)


def test_requests_that_a_model_cannot_serve_are_refused(bundles, run, mix, tmp_path, capsys):
    def check(message, name, *options, files=(mix,)):
        model = run if name == "run" else bundles[name]
        refused(capsys, message, separate, "--model", model, *files, "--out", tmp_path / "out", *options)

    known = "of bassoon, cello, flute, violin"
    check("unknown label 'vox'; this model knows bassoon, cello, flute, violin", "labels", "--label", "vox")
    check("unknown label 'vox'", "unconditioned", "--label", "vox")
    check(f"is conditioned on labels: give a label for each instrument that plays, {known}", "labels")
    check("is not conditioned on queries, so it cannot use a query: give labels", "labels", "--query", mix)
    check(
        "is not conditioned on queries, so it cannot use an interpolation: give a video",
        "video",
        "--interpolate",
        "a",
        "b",
        "1",
    )
    check(
        "is not conditioned on queries, so it cannot use iterations: leave it out", "unconditioned", "--iterations", "1"
    )
    check("cannot separate by score", "labels", "--score", mix)
    check("is conditioned on video: give a video of the players", "video", "--label", "violin")
    for name in ("run", "unconditioned", "labels"):
        check("is not conditioned on video: leave the video out", name, "--video", mix, "--label", STEMS[0])
    check("boxes mark the players in a video: give the video, too", "video", "--boxes", mix)
    check("--score is used with a --query alone: leave out --video", "run", "--score", mix, "--video", mix)
    refused(capsys, "no bundled model is conditioned on video: give --model RUN", separate, mix, "--video", mix)
    assert not (tmp_path / "out").exists()


def test_unusable_videos_and_boxes_are_refused(bundles, mix, clip, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"

    def check(message, *options, files=(mix,), video=clip, content=None):
        if content is not None:
            boxes.write_text(json.dumps(content))
        shared = ("--out", tmp_path / "out", "--video", video, *(() if content is None else ("--boxes", boxes)))
        refused(capsys, message, separate, "--model", bundles["video"], *files, *shared, *options)

    import av

    with av.open(str(tmp_path / "empty.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=10).width = 64
    check("no.mp4: no such file", video=tmp_path / "no.mp4")
    check("empty.mp4", video=tmp_path / "empty.mp4")
    check("mix.wav holds no video: give a file with a video stream", video=mix)
    check("shows the players of one mixture, not of 2", files=(mix, clip.parent / "mix2.wav"))
    check("the box [60, 0, 32, 48] of 'cello' (x, y, width, height) is not within", content={"cello": [60, 0, 32, 48]})
    check(
        "'voilin' is no stem of this model, but other boxes are named by stems",
        content={"cello": [0, 0, 1, 1], "voilin": [0, 0, 1, 1]},
    )
    check("has no boxes of the video 'clip', but of other", content={"other": {"cello": [0, 0, 1, 1]}})
    check("there are 4 players", content={stem: [0, 0, 1, 1] for stem in STEMS})
    check("has no box of 'flute', but of cello, violin", "--label", "flute", content=BOXES)
    assert not (tmp_path / "out").exists()
