"""`adapt`, and `separate` with the delta that it writes."""

import contextlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import soundfile
from flax import traverse_util

from data_pipelines.audio.reading import read_audio
from qsep_jax import adapt, separate
from qsep_jax.evaluation import adaptation
from qsep_jax.inference.adaptation import changed_parameters
from qsep_jax.runs import delta
from qsep_jax.runs.bundle import Bundle, find_model
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from qsep_jax.systems.base import RANGER
from qsep_jax.systems.one_shot import CONDITION
from tests.commands import command, refused
from tests.experiments import ROOT
from tests.variables import variables_of

RATE = 8_000
STEMS = ("drums", "bass", "other", "vocals")
QUICK = ("--epochs", 1, "--hop", 1.0, "--rate", 1e-3)


def write_bundle(config, folder, seed=0):
    """Write a bundle of a config with random weights."""
    experiment = load_config(f"{ROOT / 'configs' / config}")
    variables = variables_of(experiment.system, seed)
    folder.mkdir()
    Bundle(folder).config.write_text(to_json(experiment))
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    safetensors.numpy.save_file({name: np.array(leaf) for name, leaf in flat.items()}, Bundle(folder).variables)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_bundle("cantisani2021.py:debug", tmp_path_factory.mktemp("models") / "tasnet")


@pytest.fixture(scope="module")
def lee(tmp_path_factory):
    return write_bundle("lee2019.py:debug", tmp_path_factory.mktemp("models") / "lee")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two songs in 24 bits, stereo at 8 kHz and mono at 11 kHz, their stems, and the activations of their stems."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for name, rate, channels in (("a", RATE, 2), ("b", 11_025, 1)):
        stems = rng.normal(0, 0.02, (4, 5 * rate // 2, channels))
        for number, stem in enumerate(STEMS):
            stems[number, number * rate // 2 : (number + 1) * rate // 2] = 0.0
            path = folder / "stems" / name / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, stems[number], rate, "PCM_24")
        soundfile.write(folder / f"{name}.wav", stems.sum(0), rate, "PCM_24")
    (folder / "a.csv").write_text("stem,start,end\ndrums,0.5,2.5\nvocals,,\n")
    (folder / "b.txt").write_text("0.5\t2.5\tdrums\n0\t1.5\tvocals\n")
    return folder


@pytest.fixture(scope="module")
def adapted(model, sounds, tmp_path_factory):
    """The output folder of an adaptation to both songs, with activations from files."""
    out = tmp_path_factory.mktemp("adapted")
    files = (sounds / "a.wav", sounds / "b.wav", "--activations", sounds / "a.csv", sounds / "b.txt")
    assert command(adapt, *files, "--model", model, "--out", out, "--split", "l4", *QUICK, "--epochs", 3) == 0
    return out


def test_outputs_have_the_format_of_the_song(adapted, sounds):
    for name, channels in (("a", 2), ("b", 1)):
        song = soundfile.info(sounds / f"{name}.wav")
        for folder in ("before", "after"):
            for stem in STEMS:
                info = soundfile.info(adapted / name / folder / f"{stem}.wav")
                assert (info.samplerate, info.frames, info.subtype) == (song.samplerate, song.frames, "PCM_24")
                assert info.channels == channels
        report = json.loads((adapted / name / "report.json").read_text())
        # Three epochs of three chunks: 2.5 s in chunks of half a second, 1 s apart.
        assert report["updates"] == len(report["losses"]["loss"]) == 9
        assert report["skipped"] == 0
        for picture in ("activations.png", "loss.png"):
            assert (adapted / name / picture).read_bytes().startswith(b"\x89PNG")


def test_the_delta_holds_the_changed_parameters_and_separates_equally(adapted, model, sounds, tmp_path):
    source = find_model(str(model))
    before = model.joinpath("variables.safetensors").read_bytes()
    _, loaded = source.load()
    changes = delta.read(adapted / "a" / "delta.safetensors")
    system = loaded.system
    assert changes.stems == STEMS
    assert set(changes.parameters) == set(system.adaptation_presets()["l4"])
    assert changed_parameters(loaded, changes.parameters).keys() == changes.parameters.keys()
    out = ("--model", model, "--out", tmp_path)
    assert command(separate, sounds / "a.wav", *out, "--delta", adapted / "a" / "delta.safetensors") == 0
    for stem in STEMS:
        after, again = (read_audio(path / f"{stem}.wav")[0] for path in (adapted / "a" / "after", tmp_path / "a"))
        np.testing.assert_array_equal(after, again)
        assert not np.array_equal(again, read_audio(adapted / "a" / "before" / f"{stem}.wav")[0])
    assert model.joinpath("variables.safetensors").read_bytes() == before


def test_references_give_activations_and_scores(model, sounds, tmp_path, capsys):
    options = ("--references", sounds / "stems", "--model", model, "--out", tmp_path)
    assert command(adapt, sounds / "a.wav", *options, *QUICK) == 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["sdr_before"].keys() == report["sdr_after"].keys() == set(STEMS)
    assert (
        f"drums {report['sdr_before']['drums']:.1f} to {report['sdr_after']['drums']:.1f} dB" in capsys.readouterr().out
    )


def test_stems_that_are_never_active_together_are_scored_where_each_is_active(tmp_path):
    rng, half = np.random.default_rng(0), 4 * RATE
    references = 0.1 * rng.standard_normal((3, 2 * half, 1)).astype(np.float32)
    references[0, :half], references[1, half:], references[2] = 0.0, 0.0, 0.0
    paths = [tmp_path / f"{stem}.wav" for stem in ("drums", "bass", "other")]
    for path, reference in zip(paths, references, strict=True):
        soundfile.write(path, reference + 0.01 * rng.standard_normal(reference.shape), RATE, subtype="FLOAT")
    sdr = adaptation.median_sdr(paths, references, RATE, ("drums", "bass", "other"))
    assert sdr["drums"] == pytest.approx(20.0, abs=1.0)
    assert sdr["bass"] == pytest.approx(20.0, abs=1.0)
    assert np.isnan(sdr["other"])


def test_pitch_copies_have_a_name_of_their_own(model, sounds, tmp_path, capsys):
    """`--shifts` means random shifts in time in the experiments; here its earlier meaning still works, with a line."""
    options = ("--activations", sounds / "a.csv", "--model", model, "--out", tmp_path, *QUICK, "--hop", 2.0)
    old = pytest.warns(UserWarning, match=r"shifts is now called pitch_copies \(--pitch-copies\): use the new name")
    for option, line in (("--pitch-copies", contextlib.nullcontext()), ("--shifts", old)):
        with line:
            assert command(adapt, sounds / "a.wav", *options, "--split", "l4-frozen", option, 1) == 0
        report = json.loads((tmp_path / "a" / "report.json").read_text())
        assert report["updates"] == 4  # two chunks, each twice
        assert report["adaptation"]["pitch_copies"] == 1
        changes = delta.read(tmp_path / "a" / "delta.safetensors")
        assert not any(path.startswith("tasnet/decoder") for path in changes.parameters)
    refused(capsys, "give pitch_copies only", adapt, sounds / "a.wav", *options, "--shifts", 1, "--pitch-copies", 1)


def test_a_template_is_written_once_and_can_be_read(model, sounds, tmp_path, capsys):
    song = tmp_path / "song.wav"
    song.write_bytes((sounds / "a.wav").read_bytes())
    assert command(adapt, song, "--model", model, "--template") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'song.csv'}\n"
    assert "drums,0,2.5" in (tmp_path / "song.csv").read_text()
    refused(capsys, "song.csv is there already: fill it in", adapt, song, "--model", model, "--template")
    options = ("--activations", tmp_path / "song.csv", "--model", model, "--out", tmp_path / "out")
    refused(capsys, "nothing to learn", adapt, song, *options)
    assert not (tmp_path / "out").exists()


def test_a_query_based_model_is_adapted_by_its_conditions(lee, sounds, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("stem,start,end\nbass,0.5,2.5\nvocals,0,1.5\n")
    queries = [f"--query={sounds / 'stems' / 'a' / stem}.wav" for stem in ("bass", "vocals")]
    options = (
        "--model",
        lee,
        "--activations",
        tmp_path / "a.csv",
        "--epochs",
        1,
        "--hop",
        0.2,
        "--out",
        tmp_path / "out",
    )
    assert command(adapt, sounds / "a.wav", *queries, *options) == 0
    changes = delta.read(tmp_path / "out" / "a" / "delta.safetensors")
    assert changes.parameters.keys() == {CONDITION}
    assert changes.stems == ("bass", "vocals")
    with_delta = ("--model", lee, "--out", tmp_path / "sep", "--delta", tmp_path / "out" / "a" / "delta.safetensors")
    assert command(separate, sounds / "a.wav", *with_delta) == 0
    for stem in changes.stems:
        pair = [read_audio(tmp_path / path / f"{stem}.wav")[0] for path in ("out/a/after", "sep/a")]
        np.testing.assert_array_equal(*pair)
    refused(
        capsys,
        "the model was adapted to separate bass, vocals: leave out",
        separate,
        sounds / "a.wav",
        *with_delta,
        *queries[:1],
    )
    refused(
        capsys,
        "is adapted for two or more stems, labels or queries of different names",
        adapt,
        sounds / "a.wav",
        *queries[:1],
        *options,
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("guitar,0,1", "guitar"),
        ("drums,0,1\ndrums,0.5,2", "overlap"),
        ("drums,0,9", "2.5"),
        ("drums,0,2.5\nvocals,0,2.5", "nothing to learn"),
    ],
)
def test_unusable_activations_are_refused(model, sounds, tmp_path, capsys, rows, message):
    (tmp_path / "a.csv").write_text(f"stem,start,end\n{rows}\n")
    options = ("--model", model, "--activations", tmp_path / "a.csv", "--out", tmp_path / "out")
    refused(capsys, message, adapt, sounds / "a.wav", *options)
    assert not (tmp_path / "out").exists()


def test_unusable_options_are_refused(model, lee, sounds, tmp_path, capsys):
    song, activations = sounds / "a.wav", ("--activations", sounds / "a.csv")
    with_model = ("--model", model, "--out", tmp_path / "out")
    refused(capsys, "no song to adapt to", adapt, *with_model)
    refused(capsys, "which model is to be adapted", adapt, song, *activations)
    refused(capsys, "Give --activations (--template writes", adapt, song, *with_model)
    refused(
        capsys, "2 songs need as many --activations, not 1", adapt, song, sounds / "b.wav", *activations, *with_model
    )
    refused(
        capsys, "unknown split 'l9': Cantisani2021 has l1, l2", adapt, song, *activations, *with_model, "--split", "l9"
    )
    refused(capsys, "shorter than the chunks of 9.00 s", adapt, song, *activations, *with_model, "--seconds", 9)
    refused(capsys, "no audio of the stem 'drums'", adapt, song, "--references", tmp_path, *with_model)
    refused(capsys, "is not conditioned on queries", adapt, song, *activations, *with_model, "--label", "drums")
    refused(capsys, "has neither a.csv nor a.txt, for", adapt, song, "--activations", tmp_path, *with_model)
    assert not (tmp_path / "out").exists()


def test_unusable_deltas_are_refused(adapted, model, sounds, tmp_path, capsys):
    other = write_bundle("cantisani2021.py:debug", tmp_path / "other", seed=1)
    path = adapted / "a" / "delta.safetensors"
    options = ("--out", tmp_path / "out", "--model")
    refused(capsys, "belongs to a model with the weights", separate, sounds / "a.wav", "--delta", path, *options, other)
    refused(capsys, "there is no delta", separate, sounds / "a.wav", "--delta", tmp_path / "x", *options, model)
    weights = model / "variables.safetensors"
    refused(
        capsys,
        "is damaged or is no delta of `qsep adapt`",
        separate,
        sounds / "a.wav",
        "--delta",
        weights,
        *options,
        model,
    )
    (tmp_path / "truncated.safetensors").write_bytes(path.read_bytes()[:-40])
    truncated = ("--delta", tmp_path / "truncated.safetensors")
    refused(
        capsys, "is damaged or is no delta of `qsep adapt`", separate, sounds / "a.wav", *truncated, *options, model
    )


def test_the_published_settings_are_the_default(model):
    adaptation = find_model(str(model)).experiment().system.adaptation
    assert adaptation.optimizer == RANGER
    assert (RANGER.learning_rate, RANGER.lookahead, RANGER.centralize) == (1e-5, 6, True)


def test_results_of_another_song_are_kept(adapted, model, sounds, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes((sounds / "a.wav").read_bytes())
    options = ("--activations", sounds / "a.csv", "--model", model, "--out", adapted)
    refused(capsys, f"is an output of {sounds / 'a.wav'}: give --overwrite", adapt, tmp_path / "a.wav", *options)
    entries = json.loads((adapted / "manifest.json").read_text())
    assert [item["file"] for item in entries[0]["adapted"]] == [str(sounds / name) for name in ("a.wav", "b.wav")]
    written = {path for name in "ab" for path in (adapted / name).rglob("*") if path.is_file()}
    assert {output["path"] for item in entries[0]["adapted"] for output in item["outputs"]} == set(map(str, written))


def test_songs_of_one_name_need_activations_of_their_own(model, sounds, tmp_path, capsys):
    """Their longer names hold for the folders of activations and references, too."""
    for name in ("d1", "d2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes((sounds / "a.wav").read_bytes())
    (tmp_path / "spans" / "d1").mkdir(parents=True)
    (tmp_path / "spans" / "d1" / "a.csv").write_bytes((sounds / "a.csv").read_bytes())
    songs = (tmp_path / "d1" / "a.wav", tmp_path / "d2" / "a.wav", "--activations", tmp_path / "spans")
    message = f"has neither a.csv nor a.txt, for {tmp_path / 'd2' / 'a.wav'}"
    refused(capsys, message, adapt, *songs, "--model", model, "--out", tmp_path / "out")
