"""Reproduce Lin et al. 2021: `python -m benchmarks.papers.lin2021 --data DIR --out DIR`, or `--small --out DIR`.

DIR of `--data` contains URMP. With `--small`, the variants `small` of the five systems are trained on the built-in
corpus `chamber_shifted`.
"""

from pathlib import Path

from benchmarks.papers import reproduction
from benchmarks.papers.lin2021.score import VARIANTS
from benchmarks.papers.reproduction import Job, Reproduction
from data_pipelines import console
from data_pipelines.schema import BUILT_IN

PACKAGE = "benchmarks.papers.lin2021"
# Hours of a training on two cores: 104,000 steps of 12 pairs at 4.78 s for 4 pairs (docs/scaling.md).
PUBLISHED_HOURS, SMALL_HOURS = 104_000 * 3 * 4.78 / 3600, 1.2


def plan(options: Reproduction) -> list[Job]:
    """The jobs of the reproduction."""
    out = options.out or Path()
    root, records = out / "data", out / "records"
    jobs = [_prepare_small(root) if options.small else _prepare(options, root)]
    # A mixture of the small corpus is scored for its first 8 s, which keeps the scoring of a run below an hour.
    score_options = ("--pairs", "32", "--seconds", "8") if options.small else ()
    for seed in range(options.seeds):
        for variant in VARIANTS.values():
            run, record = out / "runs" / f"{variant}-{seed}", records / f"{variant}-{seed}.json"
            config = f"lin2021:{variant}" + (",small" if options.small else "")
            place = ("--workdir", str(run), "--data.root", str(root), "--train.seed", str(seed))
            train = ("qsep_jax.train", "--config", config, *place)
            score = (f"{PACKAGE}.score", "--workdir", str(run), "--record", str(record), *score_options)
            hours = SMALL_HOURS if options.small else PUBLISHED_HOURS
            jobs.append(Job(f"train/{run.name}", (train, score), record, hours))
    seeds = (f"{PACKAGE}.seeds", "--record", str(records), "--out", str(out / "table"))
    jobs.append(Job("table", (seeds,), out / "table" / "table.md", 0.0, after=("train",)))
    runs = [word for variant in ("msi", "msi_dis") for word in ("--workdir", str(out / "runs" / f"{variant}-0"))]
    synthesis = (f"{PACKAGE}.synthesis", *runs, "--seconds", "8", "--out", str(out / "synthesis"))
    after = ("train/msi-0", "train/msi_dis-0")
    jobs.append(Job("synthesis", (synthesis,), out / "synthesis" / "table.md", 0.2, after))
    return jobs


def _prepare(options: Reproduction, root: Path) -> Job:
    source = ("--source", str((options.data or Path()) / "URMP"), "--tracks", "published")
    command = ("data_pipelines.prepare", "urmp", *source, "--sample-rate", "16000", "--out", str(root))
    return Job("prepare/urmp", (command,), root / "urmp" / "16000" / "metadata.json", hours=1.0)


def _prepare_small(root: Path) -> Job:
    kind, settings = BUILT_IN["chamber_shifted"]
    words = [word for name, value in settings.items() for word in (f"--{name}", f"{value:g}")]
    command = ("data_pipelines.prepare", kind, "--name", "chamber_shifted", *words, "--sample-rate", "8000")
    metadata = root / "chamber_shifted" / "8000" / "metadata.json"
    return Job("prepare/chamber_shifted", ((*command, "--out", str(root)),), metadata, hours=0.3)


if __name__ == "__main__":
    console.run(lambda: reproduction.main("lin2021", plan))
