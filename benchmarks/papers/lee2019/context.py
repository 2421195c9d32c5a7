"""The options that all experiments share, and their context: a run, its class means and a corpus."""

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
class CommonOptions:
    """Options of all experiments.

    Attributes:
      workdir: Run folder, bundle or name of a bundled model that accepts a query; required.
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Another corpus with the same stems (by default, the run's).
      split: Split of the corpus.
      out: Folder for the table, the rows and the figures (by default, `lee2019/NAME` in the run folder).
    """

    workdir: str = ""
    root: str = ""
    corpus: str = ""
    split: str = "test"
    out: Path | None = None


@dataclasses.dataclass(frozen=True)
class Context:
    """The model, the class means and the folders of an experiment.

    Attributes:
      name: Name of the experiment.
      options: Options that all experiments share.
      facts: Facts that identify the model, independent of its path.
      shared: Folder of all experiments on this run.
      out: Folder of this experiment.
    """

    name: str
    options: CommonOptions
    facts: dict[str, Any]
    experiment: Experiment
    model: Model
    bank: Bank
    shared: Path
    out: Path

    @property
    def corpus_name(self) -> str:
        return self.options.corpus or self.experiment.judged.corpora[0]

    def corpus(self, view: View | None = None, channels: int = 1, sample_rate: int = 0) -> Corpus:
        """The split, at the sample rate of the model by default, in mono by default; with the run's stems or a view."""
        view = view or self.experiment.judged.view
        root, rate = self.options.root or self.experiment.data.root, sample_rate or self.model.system.sample_rate
        return open_corpus(root, self.corpus_name, rate, self.options.split, view, channels)

    def row(self, protocol: str, **figures: Any) -> dict[str, Any]:
        """A row of `results.json`."""
        origin = {"experiment": self.name, **self.facts}
        return {**origin, "corpus": self.corpus_name, "split": self.options.split, "protocol": protocol, **figures}


def load_context(options: CommonOptions, name: str, example: str) -> Context:
    """Load the model of an experiment and create the experiment's folder.

    Raises:
      ValueError: if the model does not exist or accepts no query.
    """
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {example}")
    console.cache_compilations()
    saved = find_model(options.workdir)
    experiment, model = saved.load()
    if "query" not in model.system.cues:
        raise ValueError(f"{options.workdir} has a {type(model.system).__name__}, which accepts no query")
    run, bank = saved.path.resolve().name, saved.bank(model)
    facts = {"run": run, **identity(saved, model, bank)}
    shared = (Path("evaluation") / run if isinstance(saved, Bundle) else saved.path) / "lee2019"
    out = options.out or shared / name
    out.mkdir(parents=True, exist_ok=True)  # an error appears now rather than after minutes
    return Context(name, options, facts, experiment, model, bank, shared, out)


def require_stems(corpus: Corpus, *stems: str) -> None:
    """Raise ValueError if the corpus lacks one of the stems."""
    missing = [stem for stem in stems if stem not in corpus.stems]
    if missing:
        raise ValueError(
            f"the experiment needs {', '.join(stems)}; {corpus.folder} has {', '.join(corpus.stems)}: "
            "choose another --corpus, or a run that was trained on these stems"
        )
