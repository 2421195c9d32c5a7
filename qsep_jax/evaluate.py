"""The command `qsep evaluate`: score a model on excerpts, tracks or segments, or score folders of estimates."""

import abc
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from qsep_jax.command_line import console
from qsep_jax.evaluation.comparison import Evaluation, compare
from qsep_jax.evaluation.estimates import Oracle, QueryMode
from qsep_jax.evaluation.folders import evaluate_folders
from qsep_jax.evaluation.saved_models import TrackSelection, evaluate_excerpts, evaluate_segments, evaluate_tracks
from qsep_jax.metrics.protocols import Protocol, TrackProtocolName
from qsep_jax.runs.bundle import find_model
from qsep_jax.runs.folder import Step

NAME = "qsep evaluate"
EXAMPLE = "qsep evaluate excerpts --workdir runs/quickstart"
MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(abc.ABC):
    """Options for every evaluation of a saved model.

    Attributes:
      workdir: Run folder, bundle, or name of a bundled model.
      step: Checkpoint of the run folder: the number of its step, `last`, or `best`, which has the lowest validation
        loss. Models of --against are always scored at their best checkpoint.
      split: Split of the corpus; by default the split of the run's experiment.
      root: Folder of the prepared corpora; by default the folder of the run.
      out: Folder for the results; by default a folder in `evaluation` in the run folder.
      against: Another run or bundle, which is scored in the same way and compared item by item. The option may be
        given several times.
    """

    workdir: str
    step: Step = "best"
    split: Literal["train", "validation", "test"] | None = None
    root: str = ""
    out: Path | None = None
    against: tyro.conf.UseAppendAction[tuple[str, ...]] = ()

    @abc.abstractmethod
    def evaluate(self, name: str, out: Path | None, step: Step) -> Evaluation:
        """Evaluate the saved model `name` with these options; `out` and `step` replace those of the options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusOptions(ModelOptions):
    """Options for the evaluation on the tracks of a corpus.

    Attributes:
      corpus: Another corpus with the same stems; by default the corpus of the run's experiment.
      tracks: Number of tracks to score, in the order of their names; 0 scores all.
      oracle: Bounds that are scored beside the model: the unprocessed mixture, the ideal ratio mask (`irm`), or the
        ideal binary mask (`ibm`).
    """

    corpus: str = ""
    tracks: int = 0
    oracle: tuple[Oracle, ...] = ("mixture", "irm")

    def to_selection(self) -> TrackSelection:
        return TrackSelection(self.root, self.corpus, self.split or "", self.tracks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """Options for the protocol that scores complete tracks.

    Attributes:
      protocol: `bss_eval_v4` is museval's SDR, ISR, SIR and SAR; `bss_eval_v4_sdr` is its SDR alone, which is much
        faster; `bss_eval_v3` is mir_eval's SDR, SIR and SAR; `whole_track` is SI-SDR, SD-SDR, SNR, utterance SDR, PES
        and EPS.
      window: Length of a frame in seconds.
      hop: Distance between the starts of two frames in seconds.
    """

    protocol: TrackProtocolName = "bss_eval_v4"
    window: float = 1.0
    hop: float = 1.0

    def to_protocol(self) -> Protocol:
        return Protocol(self.protocol, self.window, self.hop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Excerpts(ModelOptions):
    """Score the best checkpoint of a run on a fixed list of short mixtures.

    Example: qsep evaluate excerpts --workdir runs/quickstart

    Attributes:
      mixtures: Number of mixtures of the list; 0 takes the number of the run's experiment.
      sources: Number of stems in each mixture, for lists that combine stems at random; 0 takes the number of the run's
        experiment.
      audio: Number of mixtures to write as WAV files, with their targets and estimates.
    """

    mixtures: int = 0
    sources: int = 0
    audio: int = 10

    def evaluate(self, name: str, out: Path | None, step: Step) -> Evaluation:
        return evaluate_excerpts(
            name,
            root=self.root,
            split=self.split or "",
            mixtures=self.mixtures,
            sources=self.sources,
            audio=self.audio,
            out=out,
            step=step,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracks(ProtocolOptions, CorpusOptions):
    """Score the best checkpoint of a run on complete tracks; an evaluation that was stopped continues.

    Example: qsep evaluate tracks --workdir runs/quickstart --protocol bss_eval_v4_sdr

    Attributes:
      ask: Where a query-based system gets its queries: `mean` uses the mean of each class; `iterative` separates again,
        with the estimates as queries; `gt` uses the true stems; `nearest` uses the training track nearest to the true
        stem. `iterative_segments` and `gt_segments` condition each segment on the query of the same segment, and not
        the whole track on the mean over the query.
      channels: 1 mixes the tracks down to mono; 0 keeps the channels of the corpus.
      sample_rate: Sample rate of the tracks and their scores in Hz, at which the corpus must be prepared; 0 takes that
        of the model. `--sample-rate 44100` scores a model of a lower rate as SiSEC does.
    """

    ask: tuple[QueryMode, ...] = ("mean",)
    channels: int = 0
    sample_rate: int = 0

    def evaluate(self, name: str, out: Path | None, step: Step) -> Evaluation:
        return evaluate_tracks(
            name,
            self.to_protocol(),
            self.to_selection(),
            channels=self.channels,
            sample_rate=self.sample_rate,
            query_modes=self.ask,
            oracles=self.oracle,
            out=out,
            step=step,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segments(CorpusOptions):
    """Score a run that estimates all stems at once on short segments; a stopped evaluation continues.

    Example: qsep evaluate segments --workdir runs/exp9 --corpus urmp_pieces --wiener 0 2

    Attributes:
      wiener: Numbers of iterations of a Wiener filter, which is applied to the outputs for each segment. Each number
        gives an estimate of its own.
      frames: Length of a segment in STFT frames, for convolutional models; 0 takes the length of training. Scores of
        BSS Eval depend on it: short segments raise the SAR most of all.
    """

    wiener: tuple[int, ...] = (0, 2)
    frames: int = 0

    def evaluate(self, name: str, out: Path | None, step: Step) -> Evaluation:
        return evaluate_segments(
            name,
            self.to_selection(),
            wiener=self.wiener,
            frames=self.frames,
            oracles=self.oracle,
            out=out,
            step=step,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders(ProtocolOptions):
    """Score separated tracks of any system, given as files TRACK/STEM.wav.

    A track that cannot be read is left out and named, and the exit code is 2.

    Example: qsep evaluate folders --estimates separated --references stems --protocol bss_eval_v4

    Attributes:
      estimates: Folder of the estimates TRACK/STEM.wav.
      references: Folder of the true stems TRACK/STEM.wav.
      tracks: Number of tracks to score, in the order of their names; 0 scores all.
      out: Folder for the results; by default `evaluation/NAME_OF_ESTIMATES`.
    """

    estimates: Path
    references: Path
    tracks: int = 0
    out: Path | None = None


@tyro.conf.configure(*MARKERS)
@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a saved model, or folders of estimates; `qsep evaluate SUBCOMMAND --help` lists the options of each.

    Attributes:
      subcommand: What to score.
    """

    subcommand: (
        Annotated[Excerpts, tyro.conf.subcommand("excerpts")]
        | Annotated[Tracks, tyro.conf.subcommand("tracks")]
        | Annotated[Segments, tyro.conf.subcommand("segments")]
        | Annotated[Folders, tyro.conf.subcommand("folders")]
    )


def with_subcommand(arguments: Sequence[str]) -> list[str]:
    """Add the sub-command to arguments that begin with an option, as all did before there were sub-commands.

    `--estimates` and `--references` belong to `folders`. Otherwise `--protocol` decides: `excerpts`, its former
    default, and `segments` are sub-commands now, and the other protocols belong to `tracks`.
    """
    if not arguments or not arguments[0].startswith("--") or arguments[0].startswith(("--help", "--tyro")):
        return [*arguments]
    tokens = [
        token
        for argument in arguments
        for token in (argument.split("=", 1) if argument.startswith("--protocol=") else [argument])
    ]
    if {"--estimates", "--references"} & {token.split("=")[0] for token in tokens}:
        return ["folders", *tokens]
    protocol = dict(zip(tokens, [*tokens[1:], ""], strict=True)).get("--protocol", "excerpts")
    if protocol not in ("excerpts", "segments"):
        return ["tracks", *tokens]
    places = {place for place, token in enumerate(tokens) if token == "--protocol"}
    return [protocol, *(token for place, token in enumerate(tokens) if not {place, place - 1} & places)]


def check(options: Excerpts | Tracks | Segments | Folders) -> None:
    """Check what the types of the options do not say.

    Raises:
      ValueError: for the first value that is out of range, and for a run that is compared with itself.
    """
    for name, value in vars(options).items():
        if isinstance(value, int) and value < 0:
            raise ValueError(f"--{name} must be 0 or more, not {value}")
    if isinstance(options, ProtocolOptions):
        console.need_positive(options, "window", "hop")
    if isinstance(options, Segments) and (not options.wiener or min(options.wiener) < 0):
        numbers = " ".join(map(str, options.wiener)) or "none"
        raise ValueError(f"--wiener needs at least one number, and numbers of 0 or more, not {numbers}")
    if isinstance(options, ModelOptions):
        names = [options.workdir, *options.against]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"--against needs other models than --workdir, and each once; {repeated[0]} is repeated")


def evaluate_models(options: ModelOptions) -> None:
    """Evaluate the model of `--workdir` and those of `--against`, print their tables, and compare them if several."""
    evaluations: dict[str, Evaluation] = {}
    for number, name in enumerate((options.workdir, *options.against)):
        out = options.out / f"{number}_{Path(name).name}" if options.out and options.against else options.out
        evaluations[name] = options.evaluate(name, out, "best" if number else options.step)
        print(f"{evaluations[name].table}\nwritten to {evaluations[name].folder}\n")
    if options.against:
        path = (options.out or find_model(options.workdir, step=options.step).evaluation) / "against.md"
        print(f"{compare(evaluations, path)}\nwritten to {path}")


def main() -> None:
    options = console.parse(Evaluate, NAME, EXAMPLE, with_subcommand(sys.argv[1:])).subcommand
    check(options)
    console.cache_compilations()
    if isinstance(options, Folders):
        evaluation = evaluate_folders(
            options.estimates, options.references, options.to_protocol(), options.tracks, options.out
        )
        print(f"{evaluation.table}\nwritten to {evaluation.folder}")
        if evaluation.failures:
            count = len(evaluation.failures)
            raise ValueError(f"left out, because they could not be scored ({count}): {'; '.join(evaluation.failures)}")
    else:
        evaluate_models(options)


if __name__ == "__main__":
    console.run(main)
