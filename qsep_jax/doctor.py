"""The command `qsep doctor`: check a run, a bundle or prepared corpora for damage, and say how to repair it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import tyro

from data_pipelines.checks import Check
from data_pipelines.prepared.verify import checks_of_corpus, corpora_below
from qsep_jax.command_line import console
from qsep_jax.runs.bundle import Bundle, bundled_models
from qsep_jax.runs.checkup import checks_of_bundle, checks_of_run
from qsep_jax.runs.digests import SUMS
from qsep_jax.runs.folder import RunFolder

EXAMPLE = "qsep doctor runs/quickstart"


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check a run, a bundle or prepared corpora completely: what is damaged, and how to repair it.

    Nothing is changed, and no code of a bundle is executed. The exit code is 2 if something is damaged.

    Attributes:
      paths: Run folders, bundles, names of bundled models, corpora (DATA/NAME/RATE), or folders of corpora.
    """

    paths: tyro.conf.Positional[tuple[str, ...]] = ()


def examine(name: str) -> Iterator[Check]:
    """Check what lies at a path, or the bundled model of this name.

    Raises:
      ValueError: if it is no run folder, no bundle and no corpus.
    """
    path = Path(name)
    if not path.exists():
        bundled = bundled_models()
        if name not in bundled:
            raise ValueError(f"{name}: no such file or folder; bundled models are {', '.join(bundled) or 'none'}")
        return checks_of_bundle(bundled[name])
    if (path / "variables.safetensors").is_file() or (path / SUMS).is_file():
        return checks_of_bundle(Bundle(path))
    if (path / "config.json").is_file() or (path / "checkpoints").is_dir():
        return checks_of_run(RunFolder(path))
    corpora = corpora_below(path)
    if not corpora:
        raise ValueError(f"{name} is no run folder, no bundle and no folder of prepared corpora")
    return (check for corpus in corpora for check in checks_of_corpus(corpus))


def main() -> None:
    options = console.parse(Doctor, "qsep doctor", EXAMPLE)
    if not options.paths:
        raise ValueError(f"what is to be checked? Give a run, a bundle or a corpus. Example: {EXAMPLE}")
    parts = [examine(path) for path in options.paths]
    console.report(check for checks in parts for check in checks)


if __name__ == "__main__":
    console.run(main)
