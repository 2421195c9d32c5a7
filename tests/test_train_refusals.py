"""What `train` refuses, in one line and without a new run folder; one process per run; a corpus without test split."""

import dataclasses
import os

import pytest

from data_pipelines.files import locked, write_json
from data_pipelines.prepared.store import Metadata, corpus_folder
from qsep_jax import train
from qsep_jax.runs.folder import RunFolder
from tests.commands import config_of, refused
from tests.experiments import debug, write_corpora

CONFIG = "lee2019.py"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_corpora(debug(CONFIG), root)
    return root


@pytest.fixture
def data(prepared, tmp_path):
    """A copy of the corpora whose metadata can be changed."""
    root, corpus = tmp_path / "data", corpus_folder(prepared, "musdb18", 22_050)
    copy = corpus_folder(root, "musdb18", 22_050)
    copy.mkdir(parents=True)
    for path in corpus.iterdir():
        (copy / path.name).hardlink_to(path)
    return root


@pytest.fixture(autouse=True)
def _no_training(monkeypatch):
    """Nothing is prepared or compiled: training and what follows it would be a failure of these tests."""
    monkeypatch.setattr(train, "prepare_missing", lambda experiment: None)
    monkeypatch.setattr(train, "fit", None)


def options(folder, data, *more):
    shared = ("--config", config_of(CONFIG), "--workdir", folder, "--data.root", data, "--train.batch-size", 8)
    return (*shared, *more)


def without_split(data, split):
    folder = corpus_folder(data, "musdb18", 22_050)
    metadata = Metadata.load(folder)
    index = {name: rows for name, rows in metadata.index.items() if name != split}
    write_json(folder / "metadata.json", dataclasses.replace(metadata, index=index).dump())


def damage(data, split):
    """Rename the audio of every record of a split."""
    (path,) = corpus_folder(data, "musdb18", 22_050).glob(f"*-{split}.array_record*")
    content = path.read_bytes().replace(b"\n\x05audio\x12", b"\n\x05sound\x12")
    path.unlink()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_that_cannot_give_a_batch(split, data, tmp_path, capsys):
    path = damage(data, split)
    refused(capsys, f"{path}, record ", train, *options(tmp_path / "run", data))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_missing_validation_split(data, tmp_path, capsys):
    without_split(data, "validation")
    refused(capsys, "has no validation split", train, *options(tmp_path / "run", data))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--train.save-every", 3, "--train.steps-per-dispatch", 2), "train.save_every = 3 is not a multiple of"),
        (("--train.weights.query_net", "missing.safetensors"), "missing.safetensors"),
    ],
)
def test_a_config_that_is_refused_leaves_no_folder(option, message, prepared, tmp_path, capsys):
    refused(capsys, message, train, *options(tmp_path / "run", prepared, *option))
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_within_the_loop_leaves_no_folder(prepared, tmp_path, capsys, monkeypatch):
    def fit(*_, **__) -> None:
        raise ValueError("XLA does not know this option")

    monkeypatch.setattr(train, "fit", fit)
    refused(capsys, "XLA does not know this option", train, *options(tmp_path / "run", prepared))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_begun_is_kept(prepared, tmp_path, capsys, monkeypatch):
    def fit(*_, **__) -> None:
        (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
        raise ValueError("stopped at step 1")

    monkeypatch.setattr(train, "fit", fit)
    refused(capsys, "stopped at step 1", train, *options(tmp_path / "run", prepared))
    assert (tmp_path / "run" / "config.json").exists()
    monkeypatch.setattr(train, "fit", lambda *_, **__: (tmp_path / "missing").read_text())
    refused(capsys, "missing", train, *options(tmp_path / "run", prepared))  # continued: not new
    assert (tmp_path / "run" / "config.json").exists()


def test_another_process_at_work(prepared, tmp_path, capsys):
    with locked(tmp_path / "run"):
        refused(capsys, f"process {os.getpid()} on ", train, *options(tmp_path / "run", prepared))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["[", "5", '{"a": 1}', '"text"'])
def test_a_damaged_record_of_the_starts(content, tmp_path):
    run = RunFolder(tmp_path)
    run.create_or_check(debug(CONFIG))
    before = run.config.read_bytes()
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json .*remove it, and this start is recorded in a new file"):
        run.create_or_check(debug(CONFIG))
    assert run.config.read_bytes() == before


def test_without_a_test_split_there_is_nothing_to_evaluate(data, tmp_path, capsys, monkeypatch):
    without_split(data, "test")
    experiment = debug(CONFIG)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=str(data)))
    train._check_test_set(experiment)

    class Model:
        system = dataclasses.replace(experiment.system)

    settings = dataclasses.replace(experiment.train, evaluate=True)
    monkeypatch.setattr(RunFolder, "load", lambda run: (dataclasses.replace(experiment, train=settings), Model))
    monkeypatch.setattr(RunFolder, "has_bank", lambda run, model: True)
    monkeypatch.setattr(train, "evaluate", None)
    train.finish(RunFolder(tmp_path / "run"))
    assert "there is nothing to evaluate: the corpus 'musdb18' has no test split" in capsys.readouterr().out
