"""Judge a run: `python -m qsep_jax.evaluate --workdir RUN`, on short excerpts, on segments or on whole tracks.

Also judges anyone's separations: `--estimates DIR --references DIR --protocol bss_eval_v4`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import tyro

from data_pipelines.files import write_text
from data_pipelines.prepared.corpus import Corpus
from qsep_jax.command_line import console
from qsep_jax.evaluation import excerpts, folders, segments
from qsep_jax.evaluation import tracks as whole_tracks
from qsep_jax.evaluation.comparison import Scores, by_track, side_by_side
from qsep_jax.evaluation.leakage import refuse_overlap
from qsep_jax.inference.cues import MixtureCondition, features_of, from_corpus, playing
from qsep_jax.inference.model import Model
from qsep_jax.metrics.protocols import Name, Protocol
from qsep_jax.runs.bundle import SavedModel, find_model, identity
from qsep_jax.runs.experiment import Experiment

EXAMPLE = "python -m qsep_jax.evaluate --workdir runs/quickstart"


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score the best checkpoint of a run, or folders of estimates; results stay beside the run.

    By default on the fixed list of excerpts of its experiment. With --protocol on the whole tracks of a split, or on
    segments of them, which continues where it was stopped.

    Attributes:
      workdir: a run folder, a bundle or the name of a carried one.
      protocol: `excerpts`; or, on whole tracks, `bss_eval_v4` (museval), `bss_eval_v4_sdr` (its SDR alone, fast),
        `bss_eval_v3` (mir_eval) or `whole_track` (SI-SDR, SD-SDR, SNR, utterance SDR, PES, EPS); or `segments`: all
        stems of a model that gives them at once, in segments of the length that it was trained on (SI-SDR, SD-SDR, PES,
        SDR, SIR, SAR).
      split: train, validation or test; the experiment's own if left out.
      out: where results go; by default `evaluation` in the run folder, or a folder in it where options were given.
      mixtures: length of the list; the experiment's own if 0.
      sources: stems in each of its mixtures, where they are combined at random; the experiment's own if 0.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: another corpus with the same stems; whole tracks and segments only.
      tracks: how many to score, in order of their names; 0 for all.
      ask: how a queried system is asked for the stems of a track: `mean` of the class, `iterative`, `gt`,
        the true stems, or `nearest`, the training track nearest to those.
      oracle: what else is scored: the untouched `mixture`, the ideal ratio mask `irm`, the ideal binary mask `ibm`.
      wiener: iterations of a Wiener filter over the outputs of each segment; one estimate for each number.
      window: of a frame, seconds.
      hop: from one frame to the next, seconds.
      channels: of whole tracks: 1 mixes down, 0 takes what the corpus stores.
      audio: how many mixtures of the list to write as WAV, with targets and estimates.
      against: another run, to be scored in the same way and set beside it; may be given several times.
      estimates: a folder of TRACK/STEM.wav by whatever system, instead of --workdir.
      references: the folder of the true TRACK/STEM.wav.
    """

    workdir: str = ""
    protocol: Name | Literal["excerpts"] = "excerpts"
    split: str = ""
    out: Path | None = None
    mixtures: int = 0
    sources: int = 0
    root: str = ""
    corpus: str = ""
    tracks: int = 0
    ask: tuple[whole_tracks.Ask, ...] = ("mean",)
    oracle: tuple[whole_tracks.Oracle, ...] = ("mixture", "irm")
    wiener: tuple[int, ...] = (0, 2)
    window: float = 1.0
    hop: float = 1.0
    channels: int = 0
    audio: int = 10
    against: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    estimates: Path | None = None
    references: Path | None = None


def _protocol(options: Evaluate) -> Protocol:
    if options.protocol in ("excerpts", "segments"):
        raise ValueError("folders of estimates are whole tracks: give --protocol, such as bss_eval_v4")
    return Protocol(options.protocol, options.window, options.hop)


def _check(options: Evaluate) -> None:
    folders = (options.estimates, options.references)
    if (options.workdir == "") == (folders == (None, None)) or (None in folders and folders != (None, None)):
        raise ValueError(f"give either --workdir, or both --estimates and --references. Example: {EXAMPLE}")
    for name in ("tracks", "mixtures", "sources", "channels", "audio"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name} must be 0 or more, not {getattr(options, name)}")
    if not options.workdir:
        _protocol(options)
    if options.against and not options.workdir:
        raise ValueError("--against compares runs: give --workdir")
    if any(count < 0 for count in options.wiener) or not options.wiener:
        raise ValueError(f"--wiener must be numbers from 0 on, not {' '.join(map(str, options.wiener)) or 'none'}")
    default, for_tracks = Evaluate(), ("corpus", "tracks", "ask", "oracle", "window", "hop", "channels")
    for_runs = ("split", "root", "corpus", "ask", "oracle", "channels")
    unused = ("mixtures", "sources", "audio", "wiener")
    if options.protocol == "excerpts":
        unused = (*for_tracks, "wiener")
    elif options.protocol == "segments":
        unused = ("mixtures", "sources", "audio", "ask", "window", "hop", "channels")
    elif not options.workdir:
        unused += for_runs
    given = [name for name in unused if getattr(options, name) != getattr(default, name)]
    if given:
        raise ValueError(f"--{given[0]} means nothing here: see what it is for in --help")


def _overridden(experiment: Experiment, options: Evaluate) -> Experiment:
    names = ("split", "mixtures", "sources")
    changes = {name: getattr(options, name) for name in names if getattr(options, name)}
    if options.sources and experiment.evaluation.kind != "pairs":
        raise ValueError("--sources is for lists that combine stems at random; this run's takes whole tracks")
    experiment = dataclasses.replace(experiment, evaluation=dataclasses.replace(experiment.evaluation, **changes))
    if options.root:
        experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=options.root))
    return experiment


def _load(name: str, options: Evaluate) -> tuple[SavedModel, Experiment, Model]:
    source = find_model(name)
    experiment, model = source.load()
    if "separate" not in model.system.tasks:
        raise ValueError(f"{name} ({type(model.system).__name__}) does not separate, so there is nothing to judge")
    return source, _overridden(experiment, options), model


def on_excerpts(name: str, options: Evaluate, out: Path | None) -> tuple[str, Path, dict[str, Scores]]:
    """Score a run on its list: the table, where everything is, and the model's improvements."""
    source, experiment, model = _load(name, options)
    changed = {name: getattr(options, name) for name in ("split", "mixtures", "sources") if getattr(options, name)}
    changed |= {"root": Path(options.root).resolve().name} if options.root else {}
    place = out or source.evaluation / "_".join(f"{name}_{value}" for name, value in changed.items())
    rows = excerpts.evaluate(source, experiment, model, place, options.audio)
    listed = json.loads((place / "list.json").read_text())
    gains = {
        (item["stem"], f"{item['mixture']}/{item['target']}"): item["si_sdr"]["model"] - item["si_sdr"]["mixture"]
        for item in listed
    }
    data = f"{rows[0]['corpus']} at {model.system.sample_rate} Hz, {rows[0]['split']} split"
    return excerpts.table(rows), place, {f"SI-SDR improvement; {data}; {rows[0]['protocol']}": gains}


def _corpus(experiment: Experiment, options: Evaluate, channels: int) -> tuple[Corpus, str]:
    """The corpus to score on, and the name of its features if players are shown by these."""
    stream, rate = experiment.judged, experiment.system.sample_rate
    name = options.corpus or stream.corpora[0]
    corpus = stream.open(experiment.data.root, name, rate, experiment.evaluation.split, channels)
    if corpus.split == "test":
        refuse_overlap(experiment, corpus)
    return corpus, features_of(stream)


def on_tracks(name: str, options: Evaluate, out: Path | None) -> tuple[str, Path, dict[str, Scores]]:
    """Score a run on the tracks of a split: the table, where it is, and the first metric for each way to ask."""
    source, experiment, model = _load(name, options)
    protocol, (corpus, features) = _protocol(options), _corpus(experiment, options, options.channels)

    def told(track: str) -> MixtureCondition:
        return from_corpus(model, corpus, playing(corpus, track), features)

    bank = source.bank(model) if "query" in model.system.cues else None
    estimates = whole_tracks.by_model(model, bank, options.ask, told)
    estimates |= whole_tracks.by_oracle(options.oracle)
    corpus_name, split = corpus.metadata.name, corpus.split
    place = out or source.evaluation / f"{corpus_name}_{split}_{protocol.name}"
    tracks = whole_tracks.of_corpus(corpus, estimates, identity(source, model, bank))[: options.tracks or None]
    scored = whole_tracks.score(tracks, protocol, place)
    rows = whole_tracks.report(scored, source.path.resolve().name, corpus_name, split, place)
    data = f"{corpus_name} at {corpus.sample_rate} Hz, {corpus.channels} channels, {split} split"
    kinds = [estimate for estimate in estimates if estimate.startswith("model")]
    compared = {f"{protocol.metrics[0]} of {kind}; {data}; {protocol}": by_track(scored, kind) for kind in kinds}
    return whole_tracks.table(rows, scored), place, compared


def on_segments(name: str, options: Evaluate, out: Path | None) -> tuple[str, Path, dict[str, Scores]]:
    """Score a run on the segments of a split: the table, where it is, and the first metric for each Wiener filter."""
    source, experiment, model = _load(name, options)
    if "query" in model.system.cues:
        raise ValueError(f"{name} gives what it is asked for by a query: segments are for models that give all stems")
    corpus, features = _corpus(experiment, options, 1)

    def told(track: str) -> MixtureCondition:
        return from_corpus(model, corpus, playing(corpus, track), features)

    protocol, corpus_name = segments.protocol_of(model.system), corpus.metadata.name
    by_model = segments.by_model(model, told, options.wiener)
    facts = identity(source, model, None) | {"features": features}
    tracks = segments.of_corpus(corpus, model.system, by_model | segments.by_oracle(model, options.oracle), facts)
    place = out or source.evaluation / f"{corpus_name}_{corpus.split}_segments"
    scored = whole_tracks.score(tracks[: options.tracks or None], protocol, place)
    table = segments.report(scored, source.path.resolve().name, corpus_name, corpus.split, place)
    data = f"{protocol.metrics[0]} of KIND; {corpus_name} at {corpus.sample_rate} Hz, {corpus.split} split; {protocol}"
    return table, place, {data.replace("KIND", kind): segments.by_segment(scored, kind) for kind in by_model}


def on_folders(estimates: Path, references: Path, options: Evaluate) -> tuple[str, Path]:
    """Score folders of estimates: the table, and where everything is."""
    protocol, place = _protocol(options), options.out or Path("evaluation") / estimates.resolve().name
    tracks = folders.of_folders(estimates, references)[: options.tracks or None]
    scored = whole_tracks.score(tracks, protocol, place)
    rows = whole_tracks.report(scored, estimates.resolve().name, str(references), "all", place)
    return whole_tracks.table(rows, scored), place


def main() -> None:
    options = console.parse(Evaluate, "python -m qsep_jax.evaluate", EXAMPLE)
    _check(options)
    console.cache_compilations()
    if options.estimates and options.references:
        table, place = on_folders(options.estimates, options.references, options)
        print(f"{table}\nwritten to {place}")
        return
    judge = {"excerpts": on_excerpts, "segments": on_segments}.get(options.protocol, on_tracks)
    found: dict[str, dict[str, Scores]] = {}
    for number, name in enumerate((options.workdir, *options.against)):
        out = options.out / f"{number}_{Path(name).name}" if options.out and options.against else options.out
        table, place, found[name] = judge(name, options, out)
        print(f"{table}\nwritten to {place}\n")
    if options.against:
        place = options.out or find_model(options.workdir).evaluation
        kinds = dict.fromkeys(kind for scores in found.values() for kind in scores)
        common = [kind for kind in kinds if all(kind in scores for scores in found.values())]
        if not common:
            raise ValueError(f"the runs were not judged alike, so nothing can be set side by side: {'; '.join(kinds)}")
        beside = "\n".join(
            side_by_side({name: scores[kind] for name, scores in found.items()}, kind) for kind in common
        )
        write_text(place / "against.md", beside)
        print(f"{beside}\nwritten to {place / 'against.md'}")


if __name__ == "__main__":
    console.run(main)
