"""Hand a run on: `python -m qsep_jax.export --workdir RUN --out BUNDLE`."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from data_pipelines.pipeline import Data
from qsep_jax import __version__
from qsep_jax.command_line import console
from qsep_jax.evaluation.excerpts import table
from qsep_jax.runs.bundle import Bundle
from qsep_jax.runs.experiment import Experiment, to_json
from qsep_jax.runs.folder import RunFolder
from qsep_jax.systems.base import Variables, parameter_count

EXAMPLE = "python -m qsep_jax.export --workdir runs/quickstart --out bundles/quickstart"


@dataclasses.dataclass(frozen=True)
class Export:
    """Make a bundle of the best checkpoint of a run: config, safetensors, class means if any, and a model card.

    Attributes:
      workdir: the run folder.
      out: the bundle, a folder that must not exist yet.
      licence: of the weights, for the model card.
      note: a paragraph for the model card: what the model is good for, and what it is not.
    """

    workdir: Path
    out: Path
    licence: str = "not stated"
    note: str = ""


def export(run: RunFolder, out: Path, licence: str = "not stated", note: str = "") -> Bundle:
    """Write the bundle of a run; it appears when it is whole.

    Raises:
      ValueError: if the run has no checkpoint, or `out` exists.
      OSError: if it cannot be written.
    """
    if out.exists():
        raise ValueError(f"{out} exists already: give another --out, or remove it")
    experiment, model = run.load()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}") as folder:
        bundle = Bundle(Path(folder) / out.name)
        bundle.path.mkdir()
        here = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=Data().root))
        bundle.config.write_text(to_json(here))  # not where the corpora lay on the machine that trained it
        flat = traverse_util.flatten_dict(jax.device_get(model.variables), sep="/")
        packed = safetensors.numpy.save({path: np.asarray(leaf, order="C") for path, leaf in flat.items()})
        bundle.variables.write_bytes(packed)
        if run.conditions.exists():
            shutil.copy(run.conditions, bundle.conditions)
        bundle.card.write_text(card(run, experiment, model.variables, out.name, licence, note))
        bundle.path.rename(out)
    return Bundle(out)


def card(run: RunFolder, experiment: Experiment, variables: Variables, name: str, licence: str, note: str) -> str:
    """The model card: what it is, what it was trained on and where, its scores with their protocol, its licence."""
    starts = json.loads((run.path / "environment.json").read_text())
    system, train = experiment.system, experiment.train
    corpora = ", ".join(sorted({name for stream in experiment.data.streams.values() for name in stream.corpora}))
    facts: dict[str, Any] = {
        "system": type(system).__name__,
        "asked by": ", ".join(system.cues) or "nothing",
        "stems": ", ".join(system.stems),
        "sample rate": f"{system.sample_rate} Hz",
        "parameters": f"{parameter_count(variables['params']):,}",
        "trained on": corpora,
        "steps": f"{run.best_step():,} of {train.steps:,}, batch {train.batch_size}, seed {train.seed}",
        "device": f"{len(starts[-1]['devices'])} × {starts[-1]['devices'][0]}",
        "versions": ", ".join(f"{package} {version}" for package, version in starts[-1]["packages"].items()),
        "commit": starts[-1]["commit"],
        "exported by": f"qsep_jax {__version__}",
        "licence of the weights": licence,
    }
    lines = [f"# {name}", "", *([note, ""] if note else []), "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    return "\n".join([*lines, "", "## Scores", "", _scores(run)])


def _scores(run: RunFolder) -> str:
    """The table of the list of excerpts, if it is of the step that is exported."""
    results = run.evaluation / "results.json"
    rows = json.loads(results.read_text()) if results.exists() else []
    if not rows or rows[0].get("step") != run.best_step():
        return (
            f"Not evaluated at this step; `python -m qsep_jax.evaluate --workdir {run.path}` before the export does.\n"
        )
    return table(rows)


def main() -> None:
    options = console.parse(Export, "python -m qsep_jax.export", EXAMPLE)
    bundle = export(RunFolder(options.workdir), options.out, options.licence, options.note)
    size = sum(path.stat().st_size for path in bundle.path.iterdir())
    print(f"{bundle.path}: {size / 1e6:.1f} MB; look over {bundle.card}")


if __name__ == "__main__":
    console.run(main)
