"""Measure time and memory of BSS Eval v4: `python -m benchmarks.evaluation --museval PATH --json OUT.json`.

The benchmark scores the stems of one song: SDR alone, all four metrics, and all four metrics by museval if it is
available. The contestants score the same signals in processes of their own and take turns. Their memory is the peak
above the memory that the process has when all modules are imported and the signals are read; it includes compilation.
"""

# Contestants import this file, too. A module that only one of them uses is imported where it is needed, since it would
# add to the memory of the others.
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.memory import MIB, check_memory, memory, settle
from benchmarks.timing.rounds import Contestant, in_turns
from data_pipelines.console import need_positive, parse, run
from data_pipelines.files import write_json

EXAMPLE = "python -m benchmarks.evaluation --museval museval/metrics.py --json evaluation.json"
COLUMNS = ("implementation", "metrics", "first_call_s", "median_s", "peak_mib", "peak_above_idle_mib")
COLUMNS += ("times_faster_than_museval", "times_less_memory_than_museval")
METRICS = ("SDR", "ISR", "SIR", "SAR")
SIGNALS = ("references", "estimates")
# Names of the contestants, in the order of the rows.
ALONE, ALL, PEER = "jax, SDR alone", "jax, all metrics", "museval"

Scores = dict[str, np.ndarray]
RunAndFacts = tuple[Callable[[], None], rows.Row]  # what `rounds.Make` returns


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measure time and memory of BSS Eval v4 for stereo stems, and compare with museval if it is available.

    Attributes:
      json: JSON file to which the rows are added; by default they are only printed.
      museval: File metrics.py of museval, which is loaded alone, since the package needs ffmpeg (by default, the
        installed package).
      stems: Number of stems.
      seconds: Length of the signals in seconds.
      sample_rate: Sample rate in Hz.
      rounds: Number of times that each contestant is timed, in turns, after a first call.
      seed: Seed of the signals.
    """

    json: Path | None = None
    museval: Path | None = None
    stems: int = 4
    seconds: float = 60.0
    sample_rate: int = 44_100
    rounds: int = 3
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError for invalid options. A constructor would not do: tyro draws a box around its errors."""
        need_positive(self, "stems", "sample_rate", "rounds")
        if self.seconds < 1:
            raise ValueError(f"--seconds must be at least 1, the length of a frame, not {self.seconds:g}")
        check_memory()


def make_signals(options: Evaluation) -> dict[str, np.ndarray]:
    """Music-like references and estimates, each `[S, T, 2]` float32.

    A stem has decaying tones of four harmonics, panned, with a delayed right channel, and soft noise. An estimate is a
    filtered stem with a tenth of the other stems and more noise.
    """
    rng, length = np.random.default_rng(options.seed), round(options.seconds * options.sample_rate)
    references = np.stack([_stem(rng, length, options.sample_rate, 55.0 * 2 ** (n % 5)) for n in range(options.stems)])
    mixture, estimates = references.sum(axis=0), np.empty_like(references)
    for reference, estimate in zip(references, estimates, strict=True):
        estimate[:] = 0.9 * reference + 0.1 * (mixture - reference)
        estimate[7:] += 0.2 * reference[:-7]
        estimate += 0.003 * rng.standard_normal(estimate.shape, np.float32)
    return {"references": references, "estimates": estimates}


def _stem(rng: np.random.Generator, length: int, rate: int, lowest: float) -> np.ndarray:
    audio = 0.001 * rng.standard_normal((length, 2), np.float32)
    pan = rng.uniform(0.2, 0.8)
    delay = round(0.0005 * rate)
    for start in range(0, length - delay, round(0.25 * rate)):
        t = np.arange(min(rate, length - start - delay)) / rate
        pitch = lowest * 2 ** (rng.integers(24) / 12)
        tone = sum(np.sin(2 * np.pi * k * pitch * t) / k**2 for k in (1, 2, 3, 4) if k * pitch < rate / 2)
        tone = tone * (0.2 * rng.uniform(0.3, 1.0) * np.exp(-4.0 * t))
        audio[start : start + len(t), 0] += (1 - pan) * tone
        audio[start + delay : start + delay + len(t), 1] += pan * tone
    return audio


def load_museval(path: Path | None) -> ModuleType:
    """The module `metrics` of museval, from a file or (None) from the installed package.

    Raises:
      ValueError: if it cannot be loaded; the message has the reason.
    """
    try:
        if path is None:
            return importlib.import_module("museval.metrics")
        spec = importlib.util.spec_from_file_location("museval_metrics", path)
        if spec is None or spec.loader is None:
            raise ImportError("no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _ = module.bss_eval
        return module
    except Exception as error:  # any kind: the package raises a RuntimeError without ffmpeg
        source = path or "the package museval"
        raise ValueError(f"{source} cannot be loaded ({type(error).__name__}: {error})") from None


def version_of_museval(path: Path | None) -> str:
    """The version in the metadata beside the package, or `unknown`."""
    folders = sys.path if path is None else [str(path.absolute().parents[1])]
    distributions = importlib.metadata.distributions(name="museval", path=folders)
    return next((distribution.version for distribution in distributions), "unknown")


def make_ours(folder: Path, name: str, sample_rate: int, metrics: tuple[str, ...]) -> RunAndFacts:
    """Time `bss_eval` of this project (`rounds.Make`), without the cache of compiled programs."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the contestants share a GPU
    import jax

    from qsep_jax.metrics.bss_eval import bss_eval

    jax.config.update("jax_enable_compilation_cache", False)

    def score(references: np.ndarray, estimates: np.ndarray) -> Scores:
        return bss_eval(references, estimates, sample_rate, metrics=metrics)

    def device_peak() -> float | None:
        if len(metrics) == 1:  # computed by NumPy; `local_devices` would start the backend
            return None
        statistics = jax.local_devices()[0].memory_stats()  # None on a CPU
        return statistics["peak_bytes_in_use"] / MIB if statistics else None

    return _ready(folder, name, score, device_peak)


def make_museval(folder: Path, name: str, sample_rate: int, path: Path | None) -> RunAndFacts:
    """Time `bss_eval` of museval (`rounds.Make`)."""
    module = load_museval(path)

    def score(references: np.ndarray, estimates: np.ndarray) -> Scores:
        results = module.bss_eval(references, estimates, window=sample_rate, hop=sample_rate)
        return dict(zip(METRICS, results[:4], strict=True))

    return _ready(folder, name, score, lambda: None)


def _ready(
    folder: Path, name: str, score: Callable[..., Scores], device_peak: Callable[[], float | None]
) -> RunAndFacts:
    """Score once, and return a function that scores again and writes the peak memory so far to `folder/name`."""
    signals = [np.load(folder / f"{which}.npy") for which in SIGNALS]
    idle = settle()
    start = time.perf_counter()
    scores = score(*signals)
    first = time.perf_counter() - start

    def run() -> None:
        score(*signals)
        peak = memory("VmHWM")
        write_json(
            folder / name, {"peak_mib": peak, "peak_above_idle_mib": peak - idle, "device_peak_mib": device_peak()}
        )

    return run, {"scores": scores, "first_call_s": first, "idle_mib": idle}


def contestant_makers(museval: Path | None) -> tuple[dict[str, tuple[Callable[..., Any], Any]], str]:
    """The contestants as `{name: (make, its last argument)}`, and the version of museval or why it is missing.

    Raises:
      ValueError: if a path of museval is given and it cannot be loaded.
    """
    ours = {ALONE: (make_ours, ("SDR",)), ALL: (make_ours, METRICS)}
    try:
        load_museval(museval)
    except ValueError as error:
        if museval is not None:
            raise
        return ours, f"left out: {error}"
    return {**ours, PEER: (make_museval, museval)}, f"museval {version_of_museval(museval)}"


def measure(options: Evaluation) -> list[rows.Row]:
    """One row per contestant, without `rows.circumstances`.

    Raises:
      ValueError: as `contestant_makers`.
    """
    makers, peer = contestant_makers(options.museval)
    facts: dict[str, rows.Row] = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, contestants = Path(temporary), []
        for which, signal in make_signals(options).items():
            np.save(folder / f"{which}.npy", signal)
        for name, (make, argument) in makers.items():
            contestants.append(stack.enter_context(Contestant(name, make, folder, name, options.sample_rate, argument)))
            facts[name] = contestants[-1].facts  # waits, so that first calls, which are timed too, do not overlap
        times = in_turns(contestants, options.rounds, warm_up=0)
        for name, contestant_facts in facts.items():
            contestant_facts |= json.loads((folder / name).read_text())
    common = {"benchmark": "evaluation", "system": "BSS Eval v4", "batch": 1, "precision": "float64", "peer": peer}
    common |= {name: getattr(options, name) for name in ("stems", "seconds", "sample_rate", "seed")}
    common |= {"channels": 2, "input": "float32"}
    return [common | row for row in comparison_rows(times, facts)]


def comparison_rows(times: dict[str, list[float]], facts: dict[str, rows.Row]) -> list[rows.Row]:
    """A row per contestant; with museval, also the ratios of time and memory and the largest differences of scores."""
    table = []
    for name, seconds in times.items():
        ours = dict(facts[name])
        scores = ours.pop("scores")
        row = {"implementation": name.split(",")[0], "metrics": ", ".join(scores), **rows.summary(seconds), **ours}
        if PEER in times and name != PEER:
            theirs = facts[PEER]
            row["times_faster_than_museval"] = rows.paired_ratio(times[PEER], seconds)
            for ratio, field in (("memory", "peak_above_idle_mib"), ("peak", "peak_mib")):
                row[f"times_less_{ratio}_than_museval"] = theirs[field] / ours[field] if ours[field] > 0 else None
            row["largest_difference_db"] = {
                metric: largest_difference(values, theirs["scores"][metric]) for metric, values in scores.items()
            }
        table.append(row)
    return table


def largest_difference(scores: np.ndarray, others: np.ndarray) -> float:
    """The largest difference in dB over stems and frames: 0 for a frame without scores, +∞ if one score is missing."""
    same = (scores == others) | (np.isnan(scores) & np.isnan(others))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(scores - others))
    return float(np.where(np.isnan(difference), np.inf, difference).max())


def main() -> None:
    options = parse(Evaluation, "python -m benchmarks.evaluation", EXAMPLE)
    options.check()
    rows.check_writable(options.json)
    measured = measure(options)
    from qsep_jax.runs.folder import environment

    here: rows.Row = environment()
    for row in measured:
        on_device = row["implementation"] == "jax" and row["metrics"] != "SDR"  # the others use NumPy alone
        row |= {"devices": 1, "device": here["devices"][0]} if on_device else {"devices": 0, "device": "host"}
    circumstances = rows.circumstances("jax", "jaxlib", "numpy", "scipy")
    rows.write(options.json, [row | circumstances for row in measured])
    signals = f"{options.stems} stereo stems of {options.seconds:g} s at {options.sample_rate} Hz"
    print(f"BSS Eval v4 of {signals}, {options.rounds} rounds in turns, each in its own process")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if differences := row.get("largest_difference_db"):
            listed = ", ".join(f"{metric} {difference:.1e} dB" for metric, difference in differences.items())
            print(f"{row['implementation']}, {row['metrics']}: largest difference from museval {listed}")
    print(f"peer: {measured[0]['peer']}")
    if options.json:
        print(f"written to {options.json}")


if __name__ == "__main__":
    run(main)
