"""What evaluation costs: `python -m benchmarks.evaluation --museval PATH --json OUT.json`.

Time and memory of BSS Eval v4 of one song: SDR alone, all four metrics, and all four by museval where that can be had.
The contestants score the same signals in processes of their own and take turns. Memory is what a process holds at its
most above what it held when it had imported everything and read the signals: compilation counts.
"""

# Contestants import this file, too: what would weigh on the memory of another is imported where it is needed.
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

EXAMPLE = "python -m benchmarks.evaluation --museval museval/metrics.py --json evaluation.json"
COLUMNS = ("implementation", "metrics", "first_call_s", "median_s", "peak_mib", "peak_above_idle_mib")
COLUMNS += ("times_faster_than_museval", "times_less_memory_than_museval")
METRICS = ("SDR", "ISR", "SIR", "SAR")
SIGNALS = ("references", "estimates")
# Contestants, which are also the rows in this order.
ALONE, ALL, PEER = "jax, SDR alone", "jax, all metrics", "museval"

Scores = dict[str, np.ndarray]
Made = tuple[Callable[[], None], rows.Row]  # of `rounds.Make`


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measure time and memory of BSS Eval v4 of stereo stems, beside museval where that can be had.

    Attributes:
      json: file to write the rows to.
      museval: its metrics.py, to be loaded alone (the whole package wants ffmpeg); by default the installed package.
      stems: how many.
      seconds: length of the signals.
      sample_rate: Hz.
      rounds: how often each is timed, in turns, after a first call.
      seed: of the signals.
    """

    json: Path | None = None
    museval: Path | None = None
    stems: int = 4
    seconds: float = 60.0
    sample_rate: int = 44_100
    rounds: int = 3
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError for what cannot be measured; not on construction, where tyro would draw a box around it."""
        need_positive(self, "stems", "sample_rate", "rounds")
        if self.seconds < 1:
            raise ValueError(f"--seconds must be at least 1, the length of a frame, not {self.seconds:g}")
        check_memory()


def make_signals(options: Evaluation) -> dict[str, np.ndarray]:
    """References and estimates, each `[S, T, 2]` float32, that are somewhat like music.

    A stem is struck tones of four harmonics that die away, panned, the right channel a little late, over soft noise. An
    estimate is a filtered stem with a tenth of the others and more noise.
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
    late = round(0.0005 * rate)
    for start in range(0, length - late, round(0.25 * rate)):
        t = np.arange(min(rate, length - start - late)) / rate
        pitch = lowest * 2 ** (rng.integers(24) / 12)
        tone = sum(np.sin(2 * np.pi * k * pitch * t) / k**2 for k in (1, 2, 3, 4) if k * pitch < rate / 2)
        tone = tone * (0.2 * rng.uniform(0.3, 1.0) * np.exp(-4.0 * t))
        audio[start : start + len(t), 0] += (1 - pan) * tone
        audio[start + late : start + late + len(t), 1] += pan * tone
    return audio


def load_museval(path: Path | None) -> ModuleType:
    """Its module `metrics`: from a file, alone, or of the installed package.

    Raises:
      ValueError: if it cannot be had; says what is missing.
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
    except Exception as error:  # of any kind: the package raises a RuntimeError without ffmpeg
        what = path or "the package museval"
        raise ValueError(f"{what} cannot be loaded ({type(error).__name__}: {error})") from None


def version_of_museval(path: Path | None) -> str:
    """As its metadata, beside the package, has it."""
    places = sys.path if path is None else [str(path.absolute().parents[1])]
    return next((found.version for found in importlib.metadata.distributions(name="museval", path=places)), "unknown")


def make_ours(folder: Path, name: str, sample_rate: int, metrics: tuple[str, ...]) -> Made:
    """`bss_eval` of this project (`rounds.Make`), without the cache of compiled programs."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the contestants share a GPU
    import jax

    from qsep_jax.metrics.bss_eval import bss_eval

    jax.config.update("jax_enable_compilation_cache", False)

    def score(references: np.ndarray, estimates: np.ndarray) -> Scores:
        return bss_eval(references, estimates, sample_rate, metrics=metrics)

    def on_device() -> float | None:
        if len(metrics) == 1:  # computed by NumPy; asking would start the backend
            return None
        statistics = jax.local_devices()[0].memory_stats()  # None on a CPU
        return statistics["peak_bytes_in_use"] / MIB if statistics else None

    return _ready(folder, name, score, on_device)


def make_museval(folder: Path, name: str, sample_rate: int, path: Path | None) -> Made:
    """`bss_eval` of museval (`rounds.Make`)."""
    module = load_museval(path)

    def score(references: np.ndarray, estimates: np.ndarray) -> Scores:
        found = module.bss_eval(references, estimates, window=sample_rate, hop=sample_rate)
        return dict(zip(METRICS, found[:4], strict=True))

    return _ready(folder, name, score, lambda: None)


def _ready(folder: Path, name: str, score: Callable[..., Scores], on_device: Callable[[], float | None]) -> Made:
    """Score once and be ready to do it again; each time leaves in `folder` how much memory it has taken so far."""
    signals = [np.load(folder / f"{which}.npy") for which in SIGNALS]
    idle = settle()
    start = time.perf_counter()
    scores = score(*signals)
    first = time.perf_counter() - start

    def run() -> None:
        score(*signals)
        peak = memory("VmHWM")
        taken = {"peak_mib": peak, "peak_above_idle_mib": peak - idle, "device_peak_mib": on_device()}
        (folder / name).write_text(json.dumps(taken))

    return run, {"scores": scores, "first_call_s": first, "idle_mib": idle}


def entries(museval: Path | None) -> tuple[dict[str, tuple[Callable[..., Any], Any]], str]:
    """Who takes part, `{name: (make, its last argument)}`, and which museval that is or why there is none.

    Raises:
      ValueError: if museval is asked for by its path and cannot be loaded.
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
    """One row per contestant, without circumstances; errors as those of `entries`."""
    makes, peer = entries(options.museval)
    facts: dict[str, rows.Row] = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, contestants = Path(temporary), []
        for which, signal in make_signals(options).items():
            np.save(folder / f"{which}.npy", signal)
        for name, (make, argument) in makes.items():
            contestants.append(stack.enter_context(Contestant(name, make, folder, name, options.sample_rate, argument)))
            facts[name] = contestants[-1].facts  # waits: first calls are timed as well, so one after the other
        times = in_turns(contestants, options.rounds, warm_up=0)
        for name, known in facts.items():
            known |= json.loads((folder / name).read_text())
    common = {"benchmark": "evaluation", "system": "BSS Eval v4", "batch": 1, "precision": "float64", "peer": peer}
    common |= {name: getattr(options, name) for name in ("stems", "seconds", "sample_rate", "seed")}
    common |= {"channels": 2, "input": "float32"}
    return [common | row for row in compared(times, facts)]


def compared(times: dict[str, list[float]], facts: dict[str, rows.Row]) -> list[rows.Row]:
    """A row per contestant; where museval took part, how much faster, how much smaller and how far off each is."""
    table = []
    for name, seconds in times.items():
        known = dict(facts[name])
        scores = known.pop("scores")
        row = {"implementation": name.split(",")[0], "metrics": ", ".join(scores), **rows.summary(seconds), **known}
        if PEER in times and name != PEER:
            theirs = facts[PEER]
            row["times_faster_than_museval"] = rows.paired_ratio(times[PEER], seconds)
            for ratio, held in (("memory", "peak_above_idle_mib"), ("peak", "peak_mib")):
                row[f"times_less_{ratio}_than_museval"] = theirs[held] / known[held] if known[held] > 0 else None
            row["largest_difference_db"] = {
                metric: largest_difference(found, theirs["scores"][metric]) for metric, found in scores.items()
            }
        table.append(row)
    return table


def largest_difference(scores: np.ndarray, others: np.ndarray) -> float:
    """In dB over stems and frames; frames that both leave unscored agree, one that only one of them scores is +∞."""
    same = (scores == others) | (np.isnan(scores) & np.isnan(others))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(scores - others))
    return float(np.where(np.isnan(difference), np.inf, difference).max())


def main() -> None:
    options = parse(Evaluation, "python -m benchmarks.evaluation", EXAMPLE)
    if options.json is None:
        raise ValueError(f"--json is needed. Example: {EXAMPLE}")
    options.check()
    rows.check_writable(options.json)
    measured = measure(options)
    from qsep_jax.runs.folder import environment

    here: rows.Row = environment()
    for row in measured:
        on_device = row["implementation"] == "jax" and row["metrics"] != "SDR"  # the others are NumPy alone
        row |= {"devices": 1, "device": here["devices"][0]} if on_device else {"devices": 0, "device": "host"}
    around = rows.circumstances("jax", "jaxlib", "numpy", "scipy")
    rows.write(options.json, [row | around for row in measured])
    what = f"{options.stems} stereo stems of {options.seconds:g} s at {options.sample_rate} Hz"
    print(f"BSS Eval v4 of {what}, {options.rounds} rounds in turns, each in its own process")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if differences := row.get("largest_difference_db"):
            said = ", ".join(f"{metric} {difference:.1e} dB" for metric, difference in differences.items())
            print(f"{row['implementation']}, {row['metrics']}: largest difference from museval {said}")
    print(f"peer: {measured[0]['peer']}")
    print(f"written to {options.json}")


if __name__ == "__main__":
    run(main)
