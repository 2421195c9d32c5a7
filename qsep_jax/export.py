"""The command `qsep export`: make a bundle of a run."""

import dataclasses
from pathlib import Path

from qsep_jax.command_line import console
from qsep_jax.evaluation.model_card import card
from qsep_jax.runs.bundle import Bundle, write_bundle
from qsep_jax.runs.folder import RunFolder, Step

EXAMPLE = "qsep export --workdir runs/quickstart --out bundles/quickstart"


@dataclasses.dataclass(frozen=True)
class Export:
    """Make a bundle of a checkpoint of a run: config, weights as safetensors, class means, and a model card.

    Attributes:
      workdir: Run folder.
      out: Folder of the bundle, which must not exist yet.
      step: Checkpoint: the number of its step, `last`, or `best`, which has the lowest validation loss.
      licence: Licence of the weights, for the model card.
      note: A paragraph for the model card, which says what the model is suited for and what it is not suited for.
    """

    workdir: Path
    out: Path
    step: Step = "best"
    licence: str = "not stated"
    note: str = ""


def export(run: RunFolder, out: Path, licence: str = "not stated", note: str = "") -> Bundle:
    """Write a bundle of the checkpoint of a run; `out` appears only when the bundle is complete.

    Raises:
      ValueError: if the run has no checkpoint, or `out` exists.
      OSError: if the bundle cannot be written.
    """
    experiment, model = run.load()
    run.keep_bank(model)
    text = card(run, experiment, model.variables, out.name, licence, note)
    return write_bundle(out, experiment, model.variables, run.conditions, text)


def main() -> None:
    options = console.parse(Export, "qsep export", EXAMPLE)
    run = RunFolder(options.workdir).at(options.step)
    bundle = export(run, options.out, options.licence, options.note)
    size = sum(path.stat().st_size for path in bundle.path.iterdir())
    print(f"{bundle.path}: {size / 1e6:.1f} MB; check its model card, {bundle.card}")


if __name__ == "__main__":
    console.run(main)
