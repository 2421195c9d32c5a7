"""The command `qsep export`: make a bundle of a run, or of published weights."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qsep_jax.command_line import console
from qsep_jax.evaluation.model_card import card, card_of_weights
from qsep_jax.runs.bundle import Bundle, write_bundle
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.folder import RunFolder, Step
from qsep_jax.runs.pretrained import published_variables

EXAMPLE = "qsep export --workdir runs/quickstart --out bundles/quickstart"


@dataclasses.dataclass(frozen=True)
class Export:
    """Make a bundle of a checkpoint of a run, or of published weights: config, weights as safetensors, a model card.

    A bundle of a query-based run has class means, too. Published weights need no run: --config names the experiment,
    and --weights a file for each of its networks.

    Attributes:
      workdir: Run folder.
      config: Instead of a run: a config file or the name of an installed config, with a variant after a colon.
      weights: With --config: names of networks, each followed by a file of published weights, a run folder or a bundle.
      out: Folder of the bundle, which must not exist yet unless --overwrite is given.
      step: Checkpoint: the number of its step, `last`, or `best`, which has the lowest validation loss.
      licence: Licence of the weights, for the model card.
      note: A paragraph for the model card, which says what the model is suited for and what it is not suited for.
      overwrite: Replace the bundle that OUT is, when the new one is complete.
    """

    out: Path
    workdir: Path | None = None
    config: str = ""
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    step: Step = "best"
    licence: str = "not stated"
    note: str = ""
    overwrite: bool = False


@contextlib.contextmanager
def replacing(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield where to write a bundle that becomes `out`; if `overwrite` is set, in place of the bundle that is there.

    Raises:
      ValueError: if `out` exists and is no bundle, which would be deleted.
      OSError: if it cannot be replaced.
    """
    if not overwrite or not out.exists():
        yield out
        return
    if not (Bundle(out).config.is_file() and Bundle(out).variables.is_file()):
        raise ValueError(f"{out} is no bundle, and --overwrite replaces bundles only: give another --out")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}") as folder:
        new = Path(folder) / out.name
        yield new
        out.rename(Path(folder) / "old")
        new.rename(out)


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


def export_weights(
    config: str, weights: dict[str, str], out: Path, licence: str = "not stated", note: str = ""
) -> Bundle:
    """Write a bundle of published weights; `out` appears only when the bundle is complete.

    Args:
      config: A config file or the name of an installed config, with a variant after a colon.
      weights: A file of published weights, a run folder or a bundle, by name of the network.

    Raises:
      ValueError: if a network of the config's system has no weights, a file does not fit, or `out` exists.
      OSError: if the bundle cannot be written.
    """
    experiment = load_config(config)
    train = dataclasses.replace(experiment.train, weights=weights)
    experiment = dataclasses.replace(experiment, train=train)
    variables = published_variables(experiment.system, weights)
    text = card_of_weights(experiment, variables, out.name, licence, note)
    return write_bundle(out, experiment, variables, out / "conditions.npz", text)


def _check(options: Export) -> None:
    if bool(options.workdir) == bool(options.config):
        raise ValueError(f"export needs either --workdir or --config and --weights. Example: {EXAMPLE}")
    if bool(options.config) != bool(options.weights):
        raise ValueError("--config and --weights belong together: published weights are exported as a config's system")
    if options.config and options.step != "best":
        raise ValueError(f"--step is for runs: leave it out with --config, not {options.step}")


def main() -> None:
    options = console.parse(Export, "qsep export", EXAMPLE)
    _check(options)
    with replacing(options.out, options.overwrite) as out:
        if options.workdir:
            export(RunFolder(options.workdir).at(options.step), out, options.licence, options.note)
        else:
            export_weights(options.config, options.weights, out, options.licence, options.note)
    bundle = Bundle(options.out)
    size = sum(path.stat().st_size for path in bundle.path.iterdir())
    print(f"{bundle.path}: {size / 1e6:.1f} MB; check its model card, {bundle.card}")


if __name__ == "__main__":
    console.run(main)
