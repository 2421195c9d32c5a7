"""The model card of a bundle."""

import importlib.metadata
from pathlib import Path
from typing import Any

from data_pipelines.files import read_json
from qsep_jax.evaluation.excerpts import table
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.folder import RunFolder
from qsep_jax.systems.base import Variables, parameter_count


def card(run: RunFolder, experiment: Experiment, variables: Variables, name: str, licence: str, note: str) -> str:
    """Write the model card of a run: its system, training data, versions, scores with their protocol, and licence.

    Args:
      name: Title of the card.
      licence: Licence of the weights.
      note: A paragraph below the title, or an empty text.
    """
    starts = read_json(run.path / "environment.json", "start the training again, which writes the file again")
    train = experiment.train
    corpora = ", ".join(sorted({name for stream in experiment.data.streams.values() for name in stream.corpora}))
    facts = _facts_of(experiment, variables) | {
        "training corpus": corpora,
        "steps": f"{run.used_step():,} of {train.steps:,}, batch {train.batch_size}, seed {train.seed}",
        "device": f"{len(starts[-1]['devices'])} × {starts[-1]['devices'][0]}",
        "versions": ", ".join(f"{package} {version}" for package, version in starts[-1]["packages"].items()),
        "commit": starts[-1]["commit"],
        **_export_of(licence),
    }
    return _text(name, note, facts, _scores(run))


def card_of_weights(experiment: Experiment, variables: Variables, name: str, licence: str, note: str) -> str:
    """Write the model card of published weights, with the names of their files; arguments as in `card`."""
    files = "; ".join(f"{network}: {Path(path).name}" for network, path in experiment.train.weights.items())
    facts = _facts_of(experiment, variables) | {"weights": files, **_export_of(licence)}
    return _text(name, note, facts, "Not evaluated; the weights were trained elsewhere and converted.\n")


def _facts_of(experiment: Experiment, variables: Variables) -> dict[str, Any]:
    system = experiment.system
    return {
        "system": type(system).__name__,
        "conditioned on": ", ".join(system.cues) or "nothing",
        "stems": ", ".join(system.stems),
        "sample rate": f"{system.sample_rate} Hz",
        "parameters": f"{parameter_count(variables['params']):,}",
    }


def _export_of(licence: str) -> dict[str, Any]:
    version = importlib.metadata.version("qsep-jax")
    return {"exported by": f"qsep_jax {version}", "licence of the weights": licence}


def _text(name: str, note: str, facts: dict[str, Any], scores: str) -> str:
    lines = [f"# {name}", "", *([note, ""] if note else []), "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    return "\n".join([*lines, "", "## Scores", "", scores])


def _scores(run: RunFolder) -> str:
    """The table of scores on excerpts, if it belongs to the step that is exported."""
    results = run.evaluation / "results.json"
    rows = read_json(results, "evaluate the run again") if results.exists() else []
    if not rows or rows[0].get("step") != run.used_step():
        return f"Not evaluated at this step; run `qsep evaluate excerpts --workdir {run.path}` before the export.\n"
    return table(rows)
