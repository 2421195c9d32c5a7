"""Train a system: `qsep train --config configs/quickstart.py --workdir runs/quickstart`.

The same command continues a run that was stopped or killed. Every field of the experiment can be overridden:
`--train.steps 100 --system.latent-size 64`. To train on several hosts, run the command on each of them with
`--distributed.enabled`.
"""

from qsep_jax.command_line import huge_pages

if __name__ == "__main__":
    huge_pages.enable()

import contextlib
import dataclasses
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import cast

import jax
from jax.experimental import multihost_utils

from data_pipelines.corpora.pitch_shift import band_limited
from data_pipelines.files import locked
from data_pipelines.pipeline import Pipeline
from data_pipelines.prepare import build, built_in_corpus
from data_pipelines.prepared.commands import prepare_command
from data_pipelines.prepared.store import Metadata, corpus_folder, fingerprint
from data_pipelines.progress import Progress
from data_pipelines.streams import Shape
from qsep_jax.command_line import console
from qsep_jax.command_line.train_options import parse
from qsep_jax.evaluation.excerpts import evaluate, table
from qsep_jax.evaluation.leakage import refuse_overlap
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.on_device.memory import DoesNotFit
from qsep_jax.runs.class_means import encode_training_tracks
from qsep_jax.runs.experiment import Experiment
from qsep_jax.runs.experiment_json import check_readable
from qsep_jax.runs.folder import RunFolder
from qsep_jax.runs.pretrained import begin_with, check_required
from qsep_jax.systems.base import System
from qsep_jax.systems.shapes import variable_shapes
from qsep_jax.training import plan, sharding
from qsep_jax.training.checkpoint import Checkpoints
from qsep_jax.training.loop import check_intervals, fit
from qsep_jax.training.preemption import Preemption
from qsep_jax.training.settings import with_precision

# Exit code of a run that was preempted and saved its state: that of a process that SIGTERM ends.
PREEMPTED = 128 + signal.SIGTERM


def shapes_of(system: System, split: str = "train") -> dict[str, Shape]:
    """Return the shapes of each stream that the phases of a system, or its validation, need."""
    shapes = {
        stream: Shape(system.example_samples, system.sample_rate, phase.repeats)
        for phase in system.phases()
        for stream in phase.streams
    }
    return shapes if split == "train" else {stream: shapes[stream] for stream in system.validation_streams}


def prepare_missing(experiment: Experiment) -> None:
    """Build the built-in corpora that the experiment needs and that are not prepared yet; warn of outdated copies."""
    root, rate = experiment.data.root, experiment.system.sample_rate
    streams = (*experiment.data.streams.values(), *experiment.data.validation.values(), experiment.judged)
    for name in dict.fromkeys(name for stream in streams for name in stream.corpora):
        corpus, folder = built_in_corpus(name), corpus_folder(root, name, rate)
        if corpus is None:
            if folder.exists() and band_limited(Metadata.load(folder).options):
                warnings.warn(
                    f"{folder} holds pitch-shifted variants that were made at {rate} Hz and lack the top of the "
                    f"spectrum; '{prepare_command(root, name, rate)} --overwrite' makes them from the original audio",
                    stacklevel=2,
                )
            continue
        if not folder.exists():
            print(f"preparing the corpus '{name}' at {rate} Hz in {root}", flush=True)
            build(corpus, root, name=name, sample_rate=rate)
        elif Metadata.load(folder).fingerprint != fingerprint(corpus, rate):
            renew = f"{prepare_command(root, name, rate)} --overwrite"
            warnings.warn(
                f"{folder} was built with other options or by another version; '{renew}' rebuilds it", stacklevel=2
            )


def _check_test_set(experiment: Experiment) -> None:
    """Refuse to train on songs of the test set, as far as it is prepared; `evaluate` checks again."""
    judged, rate, split = experiment.judged, experiment.system.sample_rate, experiment.evaluation.split
    for name in judged.corpora:
        folder = corpus_folder(experiment.data.root, name, rate)
        if folder.exists() and Metadata.load(folder).index.get(split):
            refuse_overlap(experiment, judged.open(experiment.data.root, name, rate, split))


def train(run: RunFolder, experiment: Experiment) -> int | None:
    """Train a run to its last step, or continue it.

    Returns:
      The step at which the run was preempted, or None.

    Raises:
      ValueError: if the experiment cannot be stored, does not fit the run folder, lacks weights that it must start
        from, or its corpora are not prepared or cannot give a batch. A run folder that is new is removed again.
      OSError: if the run folder cannot be written, or a worker process is killed.
    """
    settings, first = experiment.train, jax.process_index() == 0
    system = with_precision(experiment.system, settings.precision)
    check_readable(experiment)
    variable_shapes(system)
    check_required(settings)
    sharding.check_batch_size(settings.batch_size, sharding.make_mesh())
    if first:
        prepare_missing(experiment)
        _check_test_set(experiment)
    _wait_for_all("corpora")
    experiment, drawn_batches = _corpus_on_device(experiment, system)
    settings = experiment.train
    check_intervals(settings)
    training = _pipeline(experiment, system, "train")
    validation = _pipeline(experiment, system, "validation") if settings.validate_every else None
    for pipeline in filter(None, (training if drawn_batches is None else None, validation)):
        pipeline.batch(0)  # data that cannot give a batch are refused before the run begins
    is_new = not run.config.exists()
    try:
        if first:
            run.create_or_check(experiment)
            if flags := settings.xla_flags:
                print("XLA flags:", ", ".join(f"{name}={value}" for name, value in flags.items()), flush=True)
        _wait_for_all("prepared")
        return _fit(run, experiment, system, training, validation, drawn_batches)
    except (ValueError, OSError):
        if first and is_new:
            run.remove_unused()
        raise


def _fit(
    run: RunFolder,
    experiment: Experiment,
    system: System,
    training: Pipeline,
    validation: Pipeline | None,
    drawn_batches: DrawnBatches | None,
) -> int | None:
    """Train in a run folder that exists; return the step at which the run was preempted, or None."""
    settings, first = experiment.train, jax.process_index() == 0
    with (
        Checkpoints(run.checkpoints, settings.keep) as checkpoints,
        Preemption() as preemption,
        contextlib.ExitStack() as stack,
    ):

        def reporter(step: int) -> Progress:
            label = f"training {run.path.name}"
            progress = Progress(label, settings.steps, initial=step, unit="step", silent=not first)
            return stack.enter_context(progress)

        if first and checkpoints.latest() != settings.steps:
            run.conditions.unlink(missing_ok=True)  # they belong to an earlier checkpoint
        starts = checkpoints.latest() is None
        load_weights = begin_with(system, settings.weights) if settings.weights and starts else None
        fit(
            system,
            settings,
            training,
            validation,
            checkpoints,
            run.path,
            reporter=reporter,
            load_weights=load_weights,
            drawn_batches=drawn_batches,
            should_stop=preemption.should_stop,
        )
    return preemption.stopped_at


def _pipeline(experiment: Experiment, system: System, split: str) -> Pipeline:
    """Return the batches of a split, of which each process of a distributed run takes its part."""
    settings, processes = experiment.train, {"process": jax.process_index(), "processes": jax.process_count()}
    return Pipeline(experiment.data, shapes_of(system, split), split, settings.batch_size, settings.seed, **processes)


def _corpus_on_device(experiment: Experiment, system: System) -> tuple[Experiment, DrawnBatches | None]:
    """Return the batches that are drawn from the memory of the devices, if the experiment has `corpus_on_device`.

    If the corpus does not fit, the returned experiment does not have it. The run folder stores that experiment, so that
    a continued run does not change from one to the other.
    """
    settings = experiment.train
    if not settings.corpus_on_device:
        return experiment, None
    mesh, first = sharding.make_mesh(), jax.process_index() == 0
    try:
        batches = DrawnBatches(experiment.data, shapes_of(system), settings.batch_size, settings.seed, mesh)
    except DoesNotFit as error:
        if first:
            print(f"the corpus stays on the host: it {error}", flush=True)
        return dataclasses.replace(experiment, train=dataclasses.replace(settings, corpus_on_device=False)), None
    if first:
        print(f"the corpus takes {batches.bytes_per_device / 2**20:,.1f} MiB of each device's memory", flush=True)
    return experiment, batches


def finish(run: RunFolder) -> None:
    """Write the conditions of the training tracks, and evaluate the run if `train.evaluate`; called by one process."""
    experiment, model = run.load()
    if "query" in model.system.cues and not run.has_bank(model):
        encode_training_tracks(experiment, model).save(run.conditions)
    if experiment.train.evaluate and "separate" in model.system.tasks:
        name, split = experiment.judged.corpora[0], experiment.evaluation.split
        folder = corpus_folder(experiment.data.root, name, model.system.sample_rate)
        if folder.exists() and not Metadata.load(folder).index.get(split):
            print(f"there is nothing to evaluate: the corpus '{name}' has no {split} split")
            return
        rows = evaluate(run, experiment, model, run.evaluation)
        print(f"\n{table(rows)}\nwrote the table, audio and figure to {run.evaluation}")


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def main() -> None:
    start = time.monotonic()
    workdir, experiment, distributed, target = parse(sys.argv[1:])
    console.cache_compilations()
    if target:
        if target.data_sheet:
            console.compile_without_devices()
        system = with_precision(experiment.system, experiment.train.precision)
        print(plan.describe(plan.plan(system, experiment.train, target), experiment.train))
        return
    if distributed.enabled:
        jax.distributed.initialize(distributed.coordinator, distributed.processes, distributed.process)
    run, first = RunFolder(cast(Path, workdir)), jax.process_index() == 0
    with locked(run.path, wait=False) if first else contextlib.nullcontext():
        stopped_at = train(run, experiment)
        if stopped_at is not None:
            print(f"stopped by a signal: saved at step {stopped_at}; the same command continues from there", flush=True)
            sys.exit(PREEMPTED)
        if first:
            finish(run)
            print(f"finished in {time.monotonic() - start:.0f} s")
        _wait_for_all("finished")


if __name__ == "__main__":
    console.run(main)
