"""`separate` on files: the formats of outputs, several files, unreadable files, clipping, and errors."""

import contextlib
import json

import av
import numpy as np
import pytest
import soundfile

from data_pipelines.audio.reading import AudioFile, read_audio
from data_pipelines.audio.samples import resample
from qsep_jax import separate as command_of
from qsep_jax.inference import conditions, files, separation
from qsep_jax.runs.folder import RunFolder
from tests.commands import command, refused

NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, (40_000, 2)).astype(np.float32)


def separate(run, *options):
    return command(command_of, "--model", run, *options)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("x.flac", 48_000, 1, "PCM_24"),
        ("x.flac", 44_100, 2, "PCM_16"),
        ("x.ogg", 44_100, 2, "VORBIS"),
        ("x.wav", 44_100, 1, "PCM_32"),
        ("x.wav", 16_000, 3, "FLOAT"),
        ("x.aiff", 22_050, 2, "PCM_24"),
        ("x.mp3", 44_100, 2, "MPEG_LAYER_III"),
        ("x.caf", 48_000, 1, "ALAC_16"),
    ],
)
def test_outputs_have_the_format_of_the_input(run, tmp_path, name, rate, channels, subtype):
    soundfile.write(tmp_path / name, np.resize(NOISE, (rate // 2 + 7, channels)), rate, subtype)
    assert separate(run, tmp_path / name, "--label", "bass", "--out", tmp_path / "out") == 0
    source, output = (soundfile.info(path) for path in (tmp_path / name, tmp_path / "out" / "x" / f"bass{name[1:]}"))
    for field in ("format", "subtype", "samplerate", "channels", "frames"):
        assert getattr(output, field) == getattr(source, field)


def write_m4a(path, codec):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44_100, layout="stereo")
        samples = np.ascontiguousarray(np.resize(NOISE, (8192, 2)).T, np.float32)
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate, frame.pts = 44_100, 0
        resampler = av.AudioResampler(stream.codec_context.format, "stereo", 44_100, stream.codec_context.frame_size)
        for converted in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("codec", "subtype"), [("aac", "PCM_16"), ("alac", "PCM_24")])
def test_m4a_becomes_wav_and_the_command_says_so(run, tmp_path, codec, subtype, capsys):
    write_m4a(tmp_path / "x.m4a", codec)
    assert separate(run, tmp_path / "x.m4a", "--label", "bass", "--out", tmp_path / "out") == 0
    output = soundfile.info(tmp_path / "out" / "x" / "bass.wav")
    assert (output.subtype, output.frames) == (subtype, len(read_audio(tmp_path / "x.m4a")[0]))
    assert f"bass.wav  (written as WAV {subtype}, the input is MP4 {codec})" in capsys.readouterr().out


def test_alac_of_24_bits_becomes_pcm_since_its_encoder_damages_noise(run, tmp_path, capsys):
    soundfile.write(tmp_path / "x.caf", NOISE, 44_100, "ALAC_24")
    assert separate(run, tmp_path / "x.caf", "--label", "bass", "--out", tmp_path / "out") == 0
    assert soundfile.info(tmp_path / "out" / "x" / "bass.caf").subtype == "PCM_24"
    assert "bass.caf  (written as CAF PCM_24, the input is CAF ALAC_24)" in capsys.readouterr().out


def test_a_folder_with_one_damaged_file_of_five(run, tmp_path, capsys):
    album = tmp_path / "album"
    (album / "side b").mkdir(parents=True)
    for number in range(4):
        soundfile.write(album / ("side b" if number == 3 else ".") / f"{number}.flac", NOISE, 22_050)
    (album / "2 damaged.flac").write_bytes((album / "2.flac").read_bytes()[:1000])
    (album / "cover.jpg").write_bytes(b"no audio")
    capsys.readouterr()
    assert separate(run, album, "--label", "bass", "--out", tmp_path / "out") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: 1 of 5 files could not be separated: ")
    assert error.count("2 damaged.flac") == 1
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {"0/bass.flac", "1/bass.flac", "2/bass.flac", "side b/3/bass.flac", "manifest.json"}
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["model"]["run"], entry["model"]["step"]] == ["run", 4]
    assert [failure["file"] for failure in entry["failed"]] == [str(album / "2 damaged.flac")]
    assert {output["path"] for item in entry["separated"] for output in item["outputs"]} == {
        str(tmp_path / "out" / name) for name in written - {"manifest.json"}
    }


def test_patterns_and_names(run, tmp_path):
    for name in ("a1.wav", "a2.wav", "b.wav"):
        soundfile.write(tmp_path / name, NOISE, 22_050, "PCM_24")
    out = tmp_path / "out"
    assert separate(run, tmp_path / "a*.wav", "--label", "bass", "--out", out, "--name", "{stem} of {track}.flac") == 0
    assert separate(run, tmp_path / "b.wav", "--label", "bass", "--out", out, "--name", "{track}.{stem}.{ext}") == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"bass of a1.flac", "bass of a2.flac", "b.bass.wav", "manifest.json"}
    assert soundfile.info(out / "bass of a1.flac").subtype == "PCM_24"
    assert len(json.loads((out / "manifest.json").read_text())) == 2


def test_a_file_gives_the_samples_of_its_array_to_the_bit(run, tmp_path):
    """Processing in blocks, with resampling in both directions, equals processing the complete file at once."""
    soundfile.write(tmp_path / "x.wav", np.tile(NOISE, (5, 1)), 48_000, "FLOAT")
    _, model = RunFolder(run).load()
    condition = conditions.encode(model, NOISE)
    (written,) = files.separate_file(AudioFile(tmp_path / "x.wav"), model, [condition], [tmp_path / "y.wav"])
    audio, rate = read_audio(tmp_path / "x.wav")
    estimate = separation.separate(model, resample(audio, rate, 22_050), condition)[0]
    expected = resample(estimate, 22_050, rate)[: len(audio)]
    np.testing.assert_array_equal(read_audio(tmp_path / "y.wav")[0], expected)
    assert (written.frames, written.subtype, written.clipped) == (200_000, "FLOAT", 0)


def test_stems_and_residual_add_up_to_the_mixture(run, tmp_path):
    soundfile.write(tmp_path / "x.wav", NOISE, 44_100, "FLOAT")
    labels = ("--label", "bass", "--label", "drums")
    for wiener in (0, 1):
        out = tmp_path / f"out{wiener}"
        assert separate(run, tmp_path / "x.wav", *labels, "--residual", "--wiener", wiener, "--out", out) == 0
        parts = {path.stem: read_audio(path)[0] for path in (out / "x").iterdir()}
        assert parts.keys() == {"bass", "drums", "residual"}
        np.testing.assert_allclose(sum(parts.values()), NOISE, atol=1e-6)
    assert not np.array_equal(parts["bass"], read_audio(tmp_path / "out0" / "x" / "bass.wav")[0])


@pytest.mark.parametrize("clip", ["clamp", "rescale"])
def test_clipping(run, tmp_path, clip, monkeypatch):
    """`rescale` applies one gain to all outputs; `clamp` leaves outputs that do not clip unchanged."""
    soundfile.write(tmp_path / "x.wav", 0.9 * np.sign(NOISE), 22_050, "PCM_24")
    real = separation.separate_blocks

    def with_loud_bass(*arguments):
        return (np.concatenate([4 * stems[:1], 0.01 * stems[1:]]) for stems in real(*arguments))

    monkeypatch.setattr(files, "separate_blocks", with_loud_bass)
    labels = ("--label", "bass", "--label", "drums", "--clip", clip)
    with (
        pytest.warns(UserWarning, match="bass.wav: .* samples clipped") if clip == "clamp" else contextlib.nullcontext()
    ):
        assert separate(run, tmp_path / "x.wav", *labels, "--out", tmp_path / "out") == 0
    bass, drums = (read_audio(tmp_path / "out" / "x" / f"{stem}.wav")[0] for stem in ("bass", "drums"))
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())
    clipped, gain = (entry["separated"][0]["outputs"][0][name] for name in ("clipped", "gain"))
    assert (gain < 1) == (clip == "rescale")
    assert np.abs(bass).max() == pytest.approx(1.0, abs=1e-6)
    assert (clipped > 0) == (clip == "clamp")
    assert [path.name for path in (tmp_path / "out" / "x").iterdir() if path.name.startswith(".")] == []
    quiet = np.abs(drums).max()
    assert quiet < 0.0095 if clip == "rescale" else quiet > 0


def test_unusable_options_are_refused(run, tmp_path, capsys):
    soundfile.write(tmp_path / "x.wav", NOISE, 22_050)
    options = ("--model", run, tmp_path / "x.wav", "--label", "bass", "--out", tmp_path / "out")
    refused(capsys, "--name must have {stem}", command_of, *options, "--name", "{track}.{ext}")
    refused(capsys, "--name must have {stem}", command_of, *options, "--name", "{song}/{stem}.wav")
    refused(capsys, "--name must have {stem}", command_of, *options, "--name", "{stem:{x}}")
    refused(capsys, "cannot write '.mp4' files", command_of, *options, "--name", "{track}/{stem}.mp4")
    refused(capsys, "--wiener must be 0 or more, not -1", command_of, *options, "--wiener", "-1")
    (tmp_path / "empty").mkdir()
    refused(capsys, "holds no audio", command_of, "--model", run, tmp_path / "empty", *options[3:])
    message = "nothing is no run folder and no bundle: no such file or folder"
    refused(capsys, message, command_of, "--model", "nothing", *options[2:])
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{")
    refused(capsys, "manifest.json cannot be read as JSON (Expecting property name", command_of, *options)


def test_no_input_is_overwritten_and_no_output_written_twice(run, tmp_path, capsys):
    for name in ("bass.wav", "x.wav", "x.flac", "y.wav"):
        soundfile.write(tmp_path / name, NOISE, 22_050)
    inputs = {path: path.read_bytes() for path in tmp_path.iterdir()}
    here = ("--label", "bass", "--out", tmp_path, "--name", "{stem}.{ext}")
    refused(capsys, "would be written over an input", command_of, "--model", run, tmp_path / "bass.wav", *here)
    query = ("--query", tmp_path / "bass.wav", "--out", tmp_path)
    refused(capsys, "over an input", command_of, "--model", run, tmp_path / "x.wav", *query, *here[4:])
    two_files = (tmp_path / "x.wav", tmp_path / "y.wav")
    out = ("--label", "bass", "--out", tmp_path / "out", "--name", "{stem}.wav")
    refused(capsys, "would be an output of both", command_of, "--model", run, *two_files, *out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == inputs
    assert separate(run, tmp_path / "x.wav", tmp_path / "x.flac", *out[:4]) == 0
    assert {path.name for path in (tmp_path / "out" / "x").iterdir()} == {"bass.wav", "bass.flac"}


def test_a_folder_that_contains_its_outputs(run, tmp_path):
    """A second run skips the outputs of the first and hidden files."""
    soundfile.write(tmp_path / "x.wav", NOISE, 22_050)
    (tmp_path / "._x.wav").write_bytes(b"metadata of macOS")
    for _ in range(2):
        assert separate(run, tmp_path, "--label", "bass", "--out", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").rglob("*.wav")} == {"bass.wav"}
    assert not (tmp_path / "out" / "out").exists()


def test_errors_for_silent_estimates_and_inputs_name_the_file(run, tmp_path, capsys):
    soundfile.write(tmp_path / "soft.wav", 1e-5 * NOISE, 22_050, "FLOAT")
    options = ("--label", "bass", "--iterations", 1, "--clip", "rescale", "--out", tmp_path / "out")
    refused(capsys, "soft.wav: the estimate is silent", command_of, "--model", run, tmp_path / "soft.wav", *options)
    soundfile.write(tmp_path / "none.wav", 0 * NOISE, 22_050)
    refused(
        capsys, "none.wav: is silent", command_of, "--model", run, tmp_path / "none.wav", *options[:2], *options[4:]
    )
    assert not (tmp_path / "out").exists()


def test_equal_names_get_distinct_outputs_and_none_is_overwritten(run, tmp_path, capsys):
    for name in ("d1", "d2"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "song.wav", NOISE[: 20_000 if name == "d1" else 10_000], 22_050)
    first, second, out = tmp_path / "d1" / "song.wav", tmp_path / "d2" / "song.wav", tmp_path / "out"
    bass = ("--label", "BASS", "--out", out)  # labels are compared without regard to case
    assert separate(run, first, second, *bass) == 0
    assert [soundfile.info(out / name / "song" / "bass.wav").frames for name in ("d1", "d2")] == [20_000, 10_000]
    assert separate(run, first, *bass) == separate(run, first, *bass) == 0  # its own output
    refused(capsys, f"is an output of {first}: give --overwrite", command_of, "--model", run, second, *bass)
    assert soundfile.info(out / "song" / "bass.wav").frames == 20_000
    assert separate(run, second, *bass, "--overwrite") == 0
    assert soundfile.info(out / "song" / "bass.wav").frames == 10_000
    assert len(json.loads((out / "manifest.json").read_text())) == 4
    assert {path.name for path in out.iterdir()} == {"d1", "d2", "song", "manifest.json"}


def test_nothing_is_written_outside_of_the_folder(run, tmp_path, capsys):
    soundfile.write(tmp_path / "x.wav", NOISE, 22_050)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    options = ("--model", run, tmp_path / "x.wav", "--label", "bass", "--out", tmp_path / "out")
    for template in ("../{stem}.wav", f"{tmp_path}/{{stem}}.wav", "{track}/{stem}.wav"):
        refused(capsys, "nothing is written outside of the folder", command_of, *options, "--name", template)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_near_miss_of_a_label_is_suggested(run, tmp_path, capsys):
    soundfile.write(tmp_path / "x.wav", NOISE, 22_050)
    options = ("--model", run, tmp_path / "x.wav", "--out", tmp_path / "out")
    for asked in (("--label", "Bas"), ("--retrieve", "bas"), ("--interpolate", "bass", "bas", "0.5")):
        refused(capsys, "did you mean 'bass'? This model knows ", command_of, *options, *asked)
    assert separate(run, tmp_path / "x.wav", "--interpolate", "BASS", "Drums", "0.5", "--out", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out" / "x").iterdir()] == ["bass_drums_0.5.wav"]
