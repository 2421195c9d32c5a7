"""Complete checks of run folders and bundles: what is damaged, and how to repair it."""

import json
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.checks import Check, check
from data_pipelines.files import first_line, read_json, sha256
from qsep_jax.inference.model import Model
from qsep_jax.runs.bundle import Bundle, SavedModel
from qsep_jax.runs.digests import SUMS, check_sum, read_sums
from qsep_jax.runs.folder import RunFolder, bank_of
from qsep_jax.systems.registry import SOURCES, ClassNotFound
from qsep_jax.systems.shapes import variable_shapes


def checks_of_bundle(bundle: Bundle) -> Iterator[Check]:
    """Check a bundle: config, code, digests, weights, and conditions of the training tracks."""
    config = _check_config(bundle)
    yield config
    yield from _check_sources(bundle, "copy the bundle again")
    yield check(str(bundle.path / SUMS), lambda: _check_sums(bundle))
    if config.fault or config.note:
        return
    loaded: list[Model] = []
    yield check(str(bundle.variables), lambda: loaded.append(bundle.load()[1]))
    if loaded and "query" in loaded[0].system.cues:
        if not bundle.conditions.exists():
            yield Check(str(bundle.conditions), note="it is missing: the model has no class means")
        else:
            yield check(str(bundle.conditions), lambda: _count(bundle.bank(loaded[0]).tracks))


def checks_of_run(run: RunFolder) -> Iterator[Check]:
    """Check a run folder: config, code, records, each checkpoint, and conditions of the training tracks."""
    config = _check_config(run)
    yield config
    yield from _check_sources(run, "restore the file, or start a new run")
    record = run.path / "environment.json"
    if record.exists():
        remedy = "remove it, and the next start is recorded in a new file"
        yield check(str(record), lambda: read_json(record, remedy) and None)
    metrics = run.path / "metrics.jsonl"
    if metrics.exists():
        yield check(str(metrics), lambda: _check_lines(metrics))
    for path in sorted(run.path.glob(".*.part")):
        yield Check(str(path), note="left by a process that was killed: it can be deleted")
    if config.fault or config.note:
        return
    yield from _check_checkpoints(run)


def _check_checkpoints(run: RunFolder) -> Iterator[Check]:
    try:
        steps = run.steps()
    except Exception as error:  # orbax raises exceptions of many types
        yield Check(str(run.checkpoints), f"it cannot be read ({first_line(error)}): train again")
        return
    if not steps:
        yield Check(str(run.checkpoints), note="there is no complete checkpoint yet")
        return
    models: dict[int, Model] = {}
    for step in steps:
        name = f"{run.checkpoints}, step {step}"
        yield check(name, lambda step=step: models.__setitem__(step, RunFolder(run.path, step).load()[1]))
        yield check(f"{name}, state of the optimizers", lambda step=step: _check_training(run, step))
    if not models:
        return
    model = next(iter(models.values()))
    for path in sorted(run.path.glob("conditions*.npz")):
        remedy = "start the same `qsep train` again" if path == run.conditions else "delete it; it is made when needed"
        yield check(str(path), lambda path=path, remedy=remedy: _count(bank_of(path, model, remedy).tracks))


def _check_training(run: RunFolder, step: int) -> None:
    with run.open_checkpoints() as checkpoints:
        checkpoints.restore_training(step)


def _check_config(saved: SavedModel) -> Check:
    """Check the config; one whose code is not installed, or not trusted, gets a note instead of a fault."""
    try:
        variable_shapes(saved.experiment().system)
    except ValueError as error:
        if isinstance(error.__cause__, ClassNotFound):
            return Check(str(saved.config), note=f"its weights cannot be checked: {error.__cause__}")
        return Check(str(saved.config), str(error))
    except OSError as error:
        return Check(str(saved.config), f"{error.strerror}: restore it from a copy")
    return Check(str(saved.config))


def _check_sources(saved: SavedModel, remedy: str) -> Iterator[Check]:
    """Check the copies of the files that define classes of the config against the digests in it."""
    try:
        digests = json.loads(saved.config.read_bytes()).get("sources", {}).items()
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    for module, digest in digests:
        copy = saved.path / SOURCES / f"{Path(module).name}.py"
        if not copy.is_file() or sha256(copy) != digest:
            yield Check(str(copy), f"it is missing or its SHA-256 is not the one in config.json: {remedy}")
        else:
            yield Check(str(copy))


def _check_sums(bundle: Bundle) -> str | None:
    sums = read_sums(bundle.path)
    for name in sums:
        if not (bundle.path / name).is_file():
            raise ValueError(f"{name} is missing: copy the bundle again")
        check_sum(bundle.path / name)
    return None if sums else "there are no digests, since the bundle was written by an earlier version"


def _check_lines(path: Path) -> str:
    """Check the record of training; a killed process may leave its last line unfinished."""
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            if number < len(lines):
                raise ValueError(f"line {number} is no JSON: delete that line") from None
            return "the last line is not finished, which training repairs"
    return f"{len(lines)} lines"


def _count(tracks: dict[str, dict]) -> str:
    return f"{len(tracks)} stems, {sum(map(len, tracks.values()))} conditions"
