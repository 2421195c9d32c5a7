"""What every experiment is told, and what it works on: a run, its class means and a corpus."""

import dataclasses
from pathlib import Path
from typing import Any

from data_pipelines.prepared.corpus import Corpus, View, open_corpus
from qsep_jax.command_line import console
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.model import Model
from qsep_jax.runs.bundle import Bundle, find_model, identity
from qsep_jax.runs.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Setting:
    """Options of all experiments.

    Attributes:
      workdir: a run folder, a bundle or the name of a carried one, that accepts a query; needed.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: another corpus with the same stems than the run's own.
      split: of the corpus.
      out: where table, rows and pictures go; by default `lee2019/NAME` in the run folder.
    """

    workdir: str = ""
    root: str = ""
    corpus: str = ""
    split: str = "test"
    out: Path | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """What an experiment works on.

    Attributes:
      facts: which model it is, wherever it lies.
      shared: the folder of all experiments on this run.
      out: the folder of this one.
    """

    name: str
    setting: Setting
    facts: dict[str, Any]
    experiment: Experiment
    model: Model
    bank: Bank
    shared: Path
    out: Path

    @property
    def corpus_name(self) -> str:
        return self.setting.corpus or self.experiment.judged.corpora[0]

    def corpus(self, view: View | None = None, channels: int = 1) -> Corpus:
        """The split to work on, at the rate of the model, mixed down; the stems of the run unless a view is given."""
        view = view or self.experiment.judged.view
        root = self.setting.root or self.experiment.data.root
        return open_corpus(root, self.corpus_name, self.model.system.sample_rate, self.setting.split, view, channels)

    def row(self, protocol: str, **figures: Any) -> dict[str, Any]:
        """A row of `results.json`."""
        place = {"experiment": self.name, **self.facts}
        return {**place, "corpus": self.corpus_name, "split": self.setting.split, "protocol": protocol, **figures}


def begin(setting: Setting, name: str, example: str) -> Subject:
    """Load the model that an experiment is done on.

    Raises:
      ValueError: if there is none, or it cannot be asked by example.
    """
    if not setting.workdir:
        raise ValueError(f"--workdir is needed. Example: {example}")
    console.cache_compilations()
    source = find_model(setting.workdir)
    experiment, model = source.load()
    if "query" not in model.system.cues:
        raise ValueError(f"{setting.workdir} holds a {type(model.system).__name__}, which takes no query")
    run, bank = source.path.resolve().name, source.bank(model)
    facts = {"run": run, **identity(source, model, bank)}
    shared = (Path("evaluation") / run if isinstance(source, Bundle) else source.path) / "lee2019"
    out = setting.out or shared / name
    out.mkdir(parents=True, exist_ok=True)  # fails now rather than after minutes
    return Subject(name, setting, facts, experiment, model, bank, shared, out)


def need_stems(corpus: Corpus, *stems: str) -> None:
    """Raise ValueError if the corpus lacks one of the stems."""
    missing = [stem for stem in stems if stem not in corpus.stems]
    if missing:
        raise ValueError(
            f"this needs {', '.join(stems)}; {corpus.folder} is read as {', '.join(corpus.stems)}: "
            "choose another --corpus, or a run that was trained on these stems"
        )
