"""Reproduce Slizovskaia et al. 2021: `python -m benchmarks.papers.slizovskaia2021 --data DIR --out DIR`.

DIR of `--data` contains SOLOS (with `solos_timestamps.json`, and with `frames` for experiments 12 to 21) and URMP (with
its videos), and the weights that experiments start from: `resnet50*.pth` or .safetensors for 12 to 18, and
`sound_best.pth`, `frame_best.pth` and `synthesizer_best.pth` of Sound of Pixels for 19 and 20. docs/slizovskaia2021.md
names where they are published. An experiment that lacks a file is named at the beginning and left out.

With `--small`, which needs no data, the variants `small` are trained on the built-in corpus `chamber`, and a classifier
of its players replaces the ImageNet weights. Experiments 19 and 20 are left out, since the published networks of Sound
of Pixels do not fit the small ones. The runs are scored in segments of the paper's length, four times as long as those
of their training.
"""

from pathlib import Path

from benchmarks.papers import reproduction
from benchmarks.papers.reproduction import Job, Reproduction
from configs.slizovskaia2021 import EXPERIMENTS, get_config
from data_pipelines import console
from data_pipelines.prepared.store import corpus_folder
from data_pipelines.schema import BUILT_IN
from data_pipelines.video.features import features_folder
from qsep_jax.models.torch_weights import SUFFIXES
from qsep_jax.runs.experiment import Experiment

PACKAGE, CONFIG, RATE = "benchmarks.papers.slizovskaia2021", "slizovskaia2021", 11_025
# Seconds of a step of experiment 9 with 4 examples on two cores (docs/scaling.md); the others are taken to be as fast.
STEP_S = 0.65
# Scoring takes half a second for each of four estimates of a segment of 6 s (docs/evaluating.md).
SCORING_HOURS, SMALL_SCORING_HOURS = 0.5, 0.15
# A step of `small`, which has half of the channels and a quarter of the frames; a guess from its size.
SMALL_STEP_S = 0.1
# Frames of a segment in the paper, of which `small` has a quarter in training.
FRAMES = 256
# The files of Sound of Pixels, by network.
SOUND_OF_PIXELS = {"sounds": "sound", "synthesizer": "synthesizer", "resnet": "frame", "head": "frame"}


def plan(options: Reproduction) -> list[Job]:
    """The jobs of the reproduction."""
    out = options.out or Path()
    jobs = _small(options, out) if options.small else _published(options, out)
    return [*jobs, *_results(jobs, out, () if options.small else ("--corpus", "urmp_pieces"))]


def _published(options: Reproduction, out: Path) -> list[Job]:
    data, root, jobs = options.data or Path(), out / "data", []
    seeing = [name for name in EXPERIMENTS if _sees(get_config(name))]
    frames = data / "SOLOS" / "frames"
    # The test pieces are prepared once, with frames, so that all experiments are scored on the same copy.
    pieces = ("--merged", "--split", "test", "--frame-rate", "5")
    jobs.append(_prepare(root, "urmp", "urmp_pieces", 3.0, "--source", str(data / "URMP"), *pieces))
    for corpus, names, needs in (
        ("solos", [name for name in EXPERIMENTS if name not in seeing], ()),
        ("solos_video", seeing, (frames,)),
    ):
        source = ("--source", str(data / "SOLOS"), "--ranges", str(data / "SOLOS" / "solos_timestamps.json"))
        rate = ("--frame-rate", "5" if needs else "0")
        jobs.append(_prepare(root, "solos", corpus, 6.0, *source, *rate, needs=needs))
        for seed in range(options.seeds):
            for name in names:
                weights = _published_weights(get_config(name), data)
                words = ("--data.streams.separation.corpus", corpus)
                files = tuple(dict.fromkeys((*needs, *weights.values())))
                jobs.append(_training(out, name, seed, weights, words, ("--corpus", "urmp_pieces"), files))
    return jobs


def _small(options: Reproduction, out: Path) -> list[Job]:
    root, classifier = out / "data", out / "runs" / "classifier"
    jobs = [_prepare(root, BUILT_IN["chamber"][0], "chamber", 0.3)]
    place = ("--workdir", str(classifier), "--data.root", str(root))
    train = ("qsep_jax.train", "--config", f"{CONFIG}:classifier,small", *place)
    corpus = ("--root", str(root), "--corpus", "chamber", "--sample-rate", str(RATE), "--name", "classifier")
    features = features_folder(corpus_folder(root, "chamber", RATE), "classifier") / "index.json"
    encode = ("qsep_jax.frame_features", "--model", str(classifier), *corpus)
    jobs.append(Job("classifier", (train, encode), features, hours=0.5))
    for seed in range(options.seeds):
        for name in EXPERIMENTS:
            experiment = get_config(f"{name},small")
            if not experiment.train.requires_weights:
                weights = dict.fromkeys(experiment.train.weights, classifier)
                jobs.append(_training(out, f"{name},small", seed, weights, (), ("--frames", str(FRAMES))))
    return jobs


def _sees(experiment: Experiment) -> bool:
    return "frames" in experiment.system.cues


def _published_weights(experiment: Experiment, data: Path) -> dict[str, Path]:
    """The file of the weights that each network of an experiment starts from."""
    if experiment.train.requires_weights:
        return {network: data / f"{SOUND_OF_PIXELS[network]}_best.pth" for network in experiment.train.requires_weights}
    files = [path for path in sorted(data.glob("resnet50*")) if path.suffix in SUFFIXES]
    return dict.fromkeys(experiment.train.weights, files[0] if files else data / f"resnet50{SUFFIXES[0]}")


def _prepare(root: Path, kind: str, name: str, hours: float, *words: str, needs: tuple[Path, ...] = ()) -> Job:
    place = ("--name", name, "--sample-rate", str(RATE), "--out", str(root))
    metadata = corpus_folder(root, name, RATE) / "metadata.json"
    return Job(f"prepare/{name}", (("data_pipelines.prepare", kind, *words, *place),), metadata, hours, needs=needs)


def _training(
    out: Path,
    variant: str,
    seed: int,
    weights: dict[str, Path],
    words: tuple[str, ...],
    scoring: tuple[str, ...],
    needs: tuple[Path, ...] = (),
) -> Job:
    """The training and the scoring of a variant of the config.

    Args:
      weights: run folder or file of the weights that each network starts from.
      words: further options of the training.
      scoring: options of the scoring.
      needs: files without which the experiment is left out.
    """
    name, _, small = variant.partition(",")
    run, record = out / "runs" / f"{name}-{seed}", out / "records" / f"{name}-{seed}.json"
    place = ("--workdir", str(run), "--data.root", str(out / "data"), "--train.seed", str(seed))
    start = [word for network, path in weights.items() for word in (network, str(path))]
    start = ["--train.weights", *start] if start else start
    train = ("qsep_jax.train", "--config", f"{CONFIG}:{variant}", *place, *words, *start)
    score = (f"{PACKAGE}.score", "--workdir", str(run), "--record", str(record), *scoring)
    settings = get_config(variant).train
    seconds = settings.steps * (SMALL_STEP_S if small else STEP_S * settings.batch_size / 4)
    hours = seconds / 3600 + (SMALL_SCORING_HOURS if small else SCORING_HOURS)
    return Job(f"train/{run.name}", (train, score), record, hours, needs=needs)


def _results(jobs: list[Job], out: Path, corpus: tuple[str, ...]) -> list[Job]:
    """The tables and the figures, and the test of whether experiments 13 and 16 use the video."""
    records, runs, figures = str(out / "records"), out / "runs", out / "figures"
    seeing = ("train/exp13-0", "train/exp16-0")
    needs = tuple(dict.fromkeys(path for job in jobs if job.name in seeing for path in job.needs))
    watching = ("--runs", str(runs / "exp13-0"), str(runs / "exp16-0"), *corpus)
    table = (f"{PACKAGE}.summary", "--record", records, "--out", str(out / "table"))
    draw = (f"{PACKAGE}.figures", "--out", str(figures))
    scores = (*draw, "--record", records, "--figures", "3", "4", "6")
    filtered = (*draw, "--runs", str(runs / "exp11-0"), *corpus, "--figures", "5")
    swap = (f"{PACKAGE}.swap", *watching, "--out", str(out / "swap"))
    return [
        Job("table", (table,), out / "table" / "table.md", 0.0, ("train",)),
        Job("figures", (scores,), figures / "figure6.png", 0.0, ("train",)),
        Job("filter", (filtered,), figures / "figure5.png", 0.0, ("train/exp11-0",)),
        Job("swap", (swap,), out / "swap" / "table.md", 0.5, seeing, needs),
    ]


if __name__ == "__main__":
    console.run(lambda: reproduction.main("slizovskaia2021", plan))
