"""Reproduce Stoller et al. 2018: `python -m benchmarks.papers.stoller2018 --data DIR --out DIR`, also with `--small`.

DIR of `--data` contains DSD100, MedleyDB, ccmixter_corpus and iKala. With `--small` it contains FluidR3_GM.sf2: the
variants `small` of the three systems are trained on 5 songs of the built-in corpus `band`, with unpaired songs that are
rendered with this SoundFont.
"""

from pathlib import Path

from benchmarks.papers import reproduction
from benchmarks.papers.reproduction import FLUID, Job, Reproduction
from benchmarks.papers.stoller2018.score import VARIANTS
from data_pipelines import console
from data_pipelines.schema import NAMED_CORPORA

PACKAGE = "benchmarks.papers.stoller2018"
RATE = 8_192
# The folders of the published corpora, by kind of corpus.
SOURCES = {"dsd100": "DSD100", "medleydb": "MedleyDB", "ccmixter": "ccmixter_corpus", "ikala": "iKala"}
SMALL_CORPUS = "band_fluid_instrumental"
# Hours of a training of `va` on two cores: 1.41 s for a step of 4 examples (docs/scaling.md), in the published setting
# at most 100,000 steps of 64; a step of `va,small` with 8 examples takes 0.52 s (docs/stoller2018.md), and 2,000 steps
# of 4 are trained. Validation and scoring of the small runs, about 0.1 h, were not measured.
PUBLISHED_HOURS, SMALL_HOURS, SMALL_SCORING_HOURS = 100_000 * 16 * 1.41 / 3600, 2_000 * 0.26 / 3600, 0.1
# The time of a step as a share of that of `va`. An estimate: only `va` was timed.
SHARES = {"supervised": 0.3, "v": 0.8, "va": 1.0}


def plan(options: Reproduction) -> list[Job]:
    """The jobs of the reproduction."""
    out = options.out or Path()
    root, records = out / "data", out / "records"
    jobs = _prepare_small(options, root) if options.small else _prepare(options, root)
    # docs/stoller2018.md trains the small systems with half of the batch size of the variant `small`.
    suffix, overrides = (",band,instrumental,small", ("--train.batch-size", "4")) if options.small else ("", ())
    for seed in range(options.seeds):
        for variant in VARIANTS.values():
            run, record = out / "runs" / f"{variant}-{seed}", records / f"{variant}-{seed}.json"
            place = ("--workdir", str(run), "--data.root", str(root), "--train.seed", str(seed))
            train = ("qsep_jax.train", "--config", f"stoller2018:{variant}{suffix}", *place, *overrides)
            score = (f"{PACKAGE}.score", "--workdir", str(run), "--record", str(record))
            hours = SHARES[variant] * (SMALL_HOURS if options.small else PUBLISHED_HOURS)
            hours += SMALL_SCORING_HOURS if options.small else 0.0
            jobs.append(Job(f"train/{run.name}", (train, score), record, hours))
    seeds = (f"{PACKAGE}.seeds", "--record", str(records), "--out", str(out / "table"))
    jobs.append(Job("table", (seeds,), out / "table" / "table.md", 0.0, after=("train",)))
    run = out / "runs" / "va-0"
    if run.exists() or not (records / "va-0.json").exists():  # a record alone comes from another machine
        critic = (f"{PACKAGE}.critic", "--workdir", str(run), "--out", str(out / "critic"))
        jobs.append(Job("critic", (critic,), out / "critic" / "distances.md", 0.1, after=("train/va-0",)))
    return jobs


def _prepare(options: Reproduction, root: Path) -> list[Job]:
    """The jobs that prepare the published corpora; how long they take was not measured."""
    place = ("--sample-rate", str(RATE), "--out", str(root))
    return [
        Job(
            f"prepare/{kind}",
            (("data_pipelines.prepare", kind, "--source", str((options.data or Path()) / folder), *place),),
            root / kind / str(RATE) / "metadata.json",
            hours=0.5,
        )
        for kind, folder in SOURCES.items()
    ]


def _prepare_small(options: Reproduction, root: Path) -> list[Job]:
    kind, settings = NAMED_CORPORA[SMALL_CORPUS]
    rendering = {**settings, "soundfont": (options.data or Path()) / settings["soundfont"]}
    words = [word for name, value in rendering.items() for word in (f"--{name}", str(value))]
    commands = {"band": ("band",), SMALL_CORPUS: (kind, "--name", SMALL_CORPUS, *words)}
    place = ("--sample-rate", str(RATE), "--out", str(root))
    return [
        Job(
            f"prepare/{name}",
            (("data_pipelines.prepare", *command, *place),),
            root / name / str(RATE) / "metadata.json",
            hours=0.1,
        )
        for name, command in commands.items()
    ]


if __name__ == "__main__":
    console.run(lambda: reproduction.main("stoller2018", plan, small_needs=FLUID))
