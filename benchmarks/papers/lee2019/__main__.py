"""Reproduce Lee et al. 2019: `python -m benchmarks.papers.lee2019 --data DIR --out DIR`, or `--small --out DIR`.

DIR of `--data` contains MUSDB18. With `--small`, a narrow model is trained on the built-in corpus `band`, and the
quickstart on `chamber` with its own weights of the losses and with those of the paper.
"""

from pathlib import Path

from benchmarks.papers import reproduction
from benchmarks.papers.reproduction import Job, Reproduction
from data_pipelines import console

PACKAGE = "benchmarks.papers.lee2019"
EXPERIMENTS = ("table", "targeting", "interpolation", "retrieval", "iteration", "latents")
# The weights of Eq. 6 and the paper's initialisation, where the quickstart departs from them.
PAPERS_OBJECTIVE = ("--system.latent-weight", "0.5", "--system.kl-weight", "0.01", "--system.initial-log-variance", "0")
# Seconds of a step of 5 examples at the published size on two cores: 2.5 times that of 2 examples (docs/scaling.md).
PUBLISHED_STEP_S = 10.7


def plan(options: Reproduction) -> list[Job]:
    """The jobs of the reproduction."""
    out = options.out or Path()
    return _small(options, out) if options.small else _published(options, out)


def _published(options: Reproduction, out: Path) -> list[Job]:
    root = out / "data"
    source = ("--source", str((options.data or Path()) / "MUSDB18"))
    rates = {22_050: "prepare/musdb18", 44_100: "prepare/musdb18-44100"}
    jobs = [
        Job(
            name,
            (("data_pipelines.prepare", "musdb18", *source, "--sample-rate", str(rate), "--out", str(root)),),
            root / "musdb18" / str(rate) / "metadata.json",
            hours=1.0,
        )
        for rate, name in rates.items()
    ]
    for seed in range(options.seeds):
        run = out / "runs" / f"lee2019-{seed}"
        jobs += [_training(run, "lee2019", seed, root, hours=600_000 * PUBLISHED_STEP_S / 3600)]
        jobs += _experiments(run, out, corpus="", hours=20.0)
        folder = out / "experiments" / run.name / "table-44100"
        as_sisec = ("--sample-rate", "44100", "--channels", "0", "--segments")
        table = (f"{PACKAGE}.table", "--workdir", str(run), *as_sisec, "--out", str(folder))
        after = (f"train/{run.name}", "musdb18-44100")
        jobs.append(Job(f"table-44100/{run.name}", (table,), folder / "table.md", 100.0, after))
    return jobs


def _small(options: Reproduction, out: Path) -> list[Job]:
    root, records, jobs = out / "data", out / "records", []
    for seed in range(options.seeds):
        for name, weights in {"quickstart": (), "objective": PAPERS_OBJECTIVE}.items():
            run, record = out / "runs" / f"{name}-{seed}", records / f"{name}-{seed}.json"
            training = _training(run, "quickstart", seed, root, 0.1, "--train.no-evaluate", *weights)
            score = (f"{PACKAGE}.score", "--workdir", str(run), "--record", str(record))
            jobs.append(Job(training.name, (*training.commands, score), record, hours=0.1))
    objectives = (f"{PACKAGE}.objectives", "--record", str(records), "--out", str(out / "objectives"))
    jobs.append(Job("objectives", (objectives,), out / "objectives" / "table.md", 0.0, after=("train",)))
    for seed in range(options.seeds):
        run = out / "runs" / f"band-{seed}"
        jobs.append(_training(run, "lee2019:band,small", seed, root, 1.0, "--train.steps", "6000"))
        jobs += _experiments(run, out, corpus="band", hours=0.3)
    return jobs


def _training(run: Path, config: str, seed: int, root: Path, hours: float, *overrides: str) -> Job:
    """The training of a run, whose class means are written at its end."""
    place = ("--workdir", str(run), "--data.root", str(root), "--train.seed", str(seed))
    command = ("qsep_jax.train", "--config", config, *place, *overrides)
    return Job(f"train/{run.name}", (command,), run / "conditions.npz", hours)


def _experiments(run: Path, out: Path, corpus: str, hours: float) -> list[Job]:
    """The experiments on complete tracks; only `band` has the sub-stems that `targeting` needs."""
    jobs = []
    for name in EXPERIMENTS:
        folder = out / "experiments" / run.name / name
        others = ("--corpus", "band") if name == "targeting" and not corpus else ()
        command = (f"{PACKAGE}.{name}", "--workdir", str(run), "--out", str(folder), *others)
        jobs.append(Job(f"{name}/{run.name}", (command,), folder / "table.md", hours, after=(f"train/{run.name}",)))
    return jobs


if __name__ == "__main__":
    console.run(lambda: reproduction.main("lee2019", plan))
