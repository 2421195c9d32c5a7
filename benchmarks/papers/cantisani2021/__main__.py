"""Reproduce Cantisani et al. 2021: `python -m benchmarks.papers.cantisani2021 --data DIR --out DIR`, or `--small`.

DIR of `--data` contains MUSDB18, and tasnet.th if the published weights shall be adapted instead of a training of one's
own. With `--small` it contains FluidR3_GM.sf2: the variant `small` is trained on the built-in corpus `band` and adapted
to songs that are rendered with this SoundFont.
"""

from pathlib import Path

from benchmarks.papers import reproduction
from benchmarks.papers.reproduction import FLUID, Job, Reproduction
from data_pipelines import console
from data_pipelines.schema import NAMED_CORPORA
from qsep_jax.systems.cantisani2021 import SPLITS

PACKAGE = "benchmarks.papers.cantisani2021"
WEIGHTS = "tasnet.th"
SMALL_RATE, SMALL_CORPUS = 8_000, "band_fluid"
# The control makes as many updates as `l3`, without activations. The small variant has one of `l1`, too, which gains
# most there.
STRATEGIES, SMALL_STRATEGIES = (*SPLITS, "l3-mixture"), (*SPLITS, "l1-mixture", "l3-mixture")
# The small experiment of docs/cantisani2021.md: excerpts, shifts and updates that two cores can compute.
SMALL_OPTIONS = ("--songs", "10", "--seconds", "30", "--shifts", "2", "--hop", "4", "--rate", "1e-3")
# Hours on two cores. Published: 5.16 s for each example of a training step (docs/scaling.md), and 14 h for a song and a
# strategy, computed from a pass of P-L3 (docs/cantisani2021.md).
PUBLISHED_HOURS = 180 * 750 * 64 * 5.16 / 3600
PUBLISHED_SLIDE_HOURS = len(STRATEGIES) * 10 * 14.0
# Small: an update of P-L3 on 10 s takes 0.41 s (docs/cantisani2021.md). Estimated from it: 0.65 s for a training step
# on 8 s, and 36 s for the 60 updates, two separations and the scores of a song.
SMALL_HOURS = 3_000 * 0.65 / 3600
SMALL_SLIDE_HOURS = len(SMALL_STRATEGIES) * 10 * 36 / 3600


def plan(options: Reproduction) -> list[Job]:
    """The jobs of the reproduction."""
    out = options.out or Path()
    root, records = out / "data", out / "records"
    jobs = _prepare_small(options, root) if options.small else [_prepare(options, root)]
    for run, training, hours in _trainings(options, out):
        train = ("qsep_jax.train", "--workdir", str(run), "--data.root", str(root), *training)
        record = records / f"{run.name}.json"
        slide = ("--corpus", SMALL_CORPUS, *SMALL_OPTIONS) if options.small else ("--corpus", "musdb18")
        strategies = SMALL_STRATEGIES if options.small else STRATEGIES
        place = ("--model", str(run), "--record", str(record), "--out", str(out / "slide" / run.name))
        score = (f"{PACKAGE}.score", *place, *slide, "--splits", *strategies)
        hours += SMALL_SLIDE_HOURS if options.small else PUBLISHED_SLIDE_HOURS
        jobs.append(Job(f"train/{run.name}", (train, score), record, hours))
    table = (f"{PACKAGE}.table", "--record", str(records), "--out", str(out / "table"))
    jobs.append(Job("table", (table,), out / "table" / "table.md", 0.0, after=("train",)))
    return jobs


def _trainings(options: Reproduction, out: Path) -> list[tuple[Path, tuple[str, ...], float]]:
    """Run folder, options and hours of each pretraining; published weights need none, and have no seeds."""
    weights = (options.data or Path()) / WEIGHTS
    if not options.small and options.data and weights.is_file():
        load = ("--config", "cantisani2021", "--train.steps", "0", "--train.weights", "tasnet", str(weights))
        return [(out / "runs" / "published", load, 0.0)]
    config = ("--config", "cantisani2021:band,small", "--train.batch-size", "4")
    training = config if options.small else ("--config", "cantisani2021")
    hours = SMALL_HOURS if options.small else PUBLISHED_HOURS
    return [
        (out / "runs" / f"tasnet-{seed}", (*training, "--train.seed", str(seed)), hours)
        for seed in range(options.seeds)
    ]


def _prepare(options: Reproduction, root: Path) -> Job:
    source = ("--source", str((options.data or Path()) / "MUSDB18"), "--sample-rate", "44100")
    command = ("data_pipelines.prepare", "musdb18", *source, "--out", str(root))
    return Job("prepare/musdb18", (command,), root / "musdb18" / "44100" / "metadata.json", hours=1.0)


def _prepare_small(options: Reproduction, root: Path) -> list[Job]:
    kind, settings = NAMED_CORPORA[SMALL_CORPUS]
    soundfont = (options.data or Path()) / settings["soundfont"]
    commands = {"band": ("band",), SMALL_CORPUS: (kind, "--name", SMALL_CORPUS, "--soundfont", str(soundfont))}
    place = ("--sample-rate", str(SMALL_RATE), "--out", str(root))
    return [
        Job(
            f"prepare/{name}",
            (("data_pipelines.prepare", *command, *place),),
            root / name / str(SMALL_RATE) / "metadata.json",
            hours=0.1,
        )
        for name, command in commands.items()
    ]


if __name__ == "__main__":
    console.run(lambda: reproduction.main("cantisani2021", plan, small_needs=FLUID))
