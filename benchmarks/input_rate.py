"""Measure the rate of the input pipeline: `python -m benchmarks.input_rate --corpus band --json OUT.json`.

The benchmark counts mixtures per second and core, as training receives them from the Grain chain in one process, and
measures the time of each part of the work. By default a mixture has four 3-s stems at 22.05 kHz, all four present, with
unaligned crops, downmixed to mono. Without `--corpus`, the benchmark creates a synthetic corpus of noise. With
`--on-device`, it also times the same recipe on JAX's first device, from a corpus in the memory of the device.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks.timing import rows
from data_pipelines.console import need_positive, parse, run
from data_pipelines.corpora.base import Stem
from data_pipelines.pipeline import Pipeline
from data_pipelines.prepared import corpus, records, store
from data_pipelines.recipes import mixing
from data_pipelines.recipes.mixing import RandomSplit
from data_pipelines.schema import FOUR_STEMS
from data_pipelines.streams import Data, Shape, Stream
from qsep_jax.on_device.batches import DrawnBatches
from qsep_jax.training.sharding import make_mesh

EXAMPLE = "python -m benchmarks.input_rate --corpus band --json input.json"
SYNTHETIC = "synthetic"
COLUMNS = ("implementation", "corpus", "batch", "mixtures_per_s_and_core", "mixtures_per_s", "median_s", "p90_s")

# The functions whose time is measured: owner, name, and the part of the work that the function does.
PARTS: tuple[tuple[Any, str, str], ...] = (
    (RandomSplit, "__call__", "random numbers, empty arrays, mixture"),
    (corpus.Corpus, "draw", "drawing excerpts"),
    (corpus.Corpus, "add", "adding to the mix"),
    (records.Records, "audio", "finding records and their audio"),
    (records, "_payload", "copying from the file"),
    (corpus, "scale_to_float", "int16 to float32, mixdown, gain"),
    (mixing, "rms", "silence check"),
)


@dataclasses.dataclass(frozen=True)
class InputRate:
    """Measure how many mixtures per second one core makes from a prepared corpus, and the time of each part.

    Attributes:
      json: JSON file to which the rows are added; by default they are only printed.
      root: Folder of the prepared corpora.
      corpus: Name of a prepared corpus, or `synthetic`: noise in four mono stems, written to a temporary folder.
      batch: Number of examples in a batch.
      seconds: Length of an example in seconds.
      sample_rate: Sample rate of the corpus in Hz.
      rounds: Number of times that the rate is measured.
      mixtures: Number of mixtures in a round.
      tracks: Number of tracks of the synthetic corpus.
      track_seconds: Length of a track of the synthetic corpus in seconds.
      on_device: Whether to time the recipe on JAX's first device as well, from a corpus in the device's memory.
    """

    json: Path | None = None
    root: Path = Path("data")
    corpus: str = SYNTHETIC
    batch: int = 8
    seconds: float = 3.0
    sample_rate: int = 22_050
    rounds: int = 20
    mixtures: int = 400
    tracks: int = 20
    track_seconds: float = 60.0
    on_device: bool = False

    def check(self) -> None:
        """Raise ValueError for invalid options. A constructor would not do: tyro draws a box around its errors."""
        need_positive(self, "batch", "seconds", "sample_rate", "rounds", "mixtures", "tracks", "track_seconds")


def make_synthetic(root: Path, options: InputRate) -> None:
    """Write a corpus of noise to `root`, in the form that `data_pipelines.prepare` writes."""
    rng = np.random.default_rng(0)

    def track(name: str) -> list[store.Record]:
        shape = (round(options.track_seconds * options.sample_rate), 1)
        stems = [Stem(stem, rng.normal(0.0, 3000.0, shape).astype(np.int16)) for stem in FOUR_STEMS]
        return store.segments(name, stems, options.sample_rate)

    tracks = (track(f"noise_{number}") for number in range(options.tracks))
    folder = store.corpus_folder(root, SYNTHETIC, options.sample_rate)
    folder.parent.mkdir(parents=True, exist_ok=True)
    store.write(folder, SYNTHETIC, options.sample_rate, 1, {"train": tracks}, fingerprint="noise", options={})


def measure(options: InputRate) -> list[rows.Row]:
    """The rows of the benchmark, without `rows.circumstances`.

    Raises:
      ValueError: if the corpus is not prepared (the message has the command) or has fewer than four stems.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = options.root
        if options.corpus == SYNTHETIC:
            root = Path(folder)
            make_synthetic(root, options)
        stream = Stream(options.corpus, RandomSplit(presence=1.0, classes=4), channels=1)
        shape = Shape(round(options.seconds * options.sample_rate), options.sample_rate)
        data = Data(str(root), {"mixes": stream})
        pipeline = Pipeline(data, {"mixes": shape}, "train", options.batch, 0)
        stored_channels = pipeline.corpora["mixes"][0].metadata.channels
        batches = -(-options.mixtures // options.batch)
        parts = time_of_parts(pipeline, batches, options.batch)  # first, while no iterator has started threads
        wall, cpu = _rates(pipeline, options.rounds, batches, options.batch)
        device_row = _on_device(data, shape, options, batches) if options.on_device else {}
    common = {
        "benchmark": "input_rate",
        "system": "RandomSplit(presence=1.0)",
        "batch": options.batch,
        "precision": "float32",
        "corpus": "synthetic noise" if options.corpus == SYNTHETIC else options.corpus,
        "stored_channels": stored_channels,
        "seconds": options.seconds,
        "sample_rate": options.sample_rate,
    }
    on_host = common | {
        "implementation": "grain, 1 process",
        "devices": 0,
        "mixtures_per_s_and_core": 1.0 / float(np.median(cpu)),
        "mixtures_per_s": 1.0 / float(np.median(wall)),
        "cpu_median_s": float(np.median(cpu)),
        **rows.summary(wall),
        "parts_s": parts,
    }
    return [on_host, common | device_row] if device_row else [on_host]


def _on_device(data: Data, shape: Shape, options: InputRate, batches: int) -> rows.Row:
    """The row of batches that are drawn on JAX's first device, each of them awaited, as in a training step."""
    device = jax.devices()[0]
    source = DrawnBatches(data, {"mixes": shape}, options.batch, 0, make_mesh([device]))
    draw, wall = jax.jit(source.draw), []
    for number in range(options.rounds + 1):
        start = time.perf_counter()
        for batch in range(batches):
            jax.block_until_ready(draw(source.corpora, np.int32(number * batches + batch)))
        if number:  # the first round compiles
            wall.append((time.perf_counter() - start) / (batches * options.batch))
    return {
        "implementation": "jax, corpus on device",
        "devices": 1,
        "device": device.device_kind,
        "held_mib": source.bytes_per_device / 2**20,
        "mixtures_per_s": 1.0 / float(np.median(wall)),
        **rows.summary(wall),
    }


def _rates(pipeline: Pipeline, rounds: int, batches: int, size: int) -> tuple[list[float], list[float]]:
    """Seconds of wall clock and of processor time per mixture, for each round of the chain that training uses."""
    iterator = pipeline.batches()
    wall, cpu = [], []
    for number in range(rounds + 1):
        start = time.perf_counter(), time.process_time()
        for _ in range(batches):
            next(iterator)
        if number:  # the first round opens files and fills caches
            wall.append((time.perf_counter() - start[0]) / (batches * size))
            cpu.append((time.process_time() - start[1]) / (batches * size))
    iterator.close()
    return wall, cpu


def time_of_parts(pipeline: Pipeline, batches: int, size: int) -> dict[str, float]:
    """Seconds per mixture of each part, for batches made one by one; `whole` is their sum.

    The functions in `PARTS` are wrapped meanwhile, which itself takes a few per cent of the time. The time of a part
    excludes the time of other parts that it calls.
    """
    clock = _Clock()
    with ExitStack() as stack:
        for owner, name, part in PARTS:
            stack.enter_context(mock.patch.object(owner, name, clock.wrap(getattr(owner, name), part)))
        make = clock.wrap(pipeline.batch, "grain: index, batch")
        for number in range(batches):
            make(2**20 + number)
            if number == 0:
                clock.parts.clear()  # the first batch warms up
    count = max(batches - 1, 1) * size
    parts = {part: seconds / count for part, seconds in sorted(clock.parts.items(), key=lambda item: -item[1])}
    return {**parts, "whole": sum(parts.values())}


class _Clock:
    """A clock that adds up time by part; the time of a part excludes that of parts called within it."""

    def __init__(self):
        self.parts: dict[str, float] = {}
        self._within = [0.0]

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._within.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                total = time.perf_counter() - start
                self.parts[part] = self.parts.get(part, 0.0) + total - self._within.pop()
                self._within[-1] += total

        return timed


def main() -> None:
    options = parse(InputRate, "python -m benchmarks.input_rate", EXAMPLE)
    options.check()
    rows.check_writable(options.json)
    measured = measure(options)
    circumstances = rows.circumstances("grain", "array_record", "numpy", "jax")
    rows.write(options.json, [row | circumstances for row in measured])
    mixtures = f"mixtures of four {options.seconds:g}-s stems at {options.sample_rate} Hz"
    print(f"{mixtures}, one process, {options.rounds} rounds")
    print(rows.table(measured, COLUMNS))
    print("\ntime of each part, µs per mixture:")
    for part, seconds in measured[0]["parts_s"].items():
        print(f"  {part:40s} {seconds * 1e6:7.0f}")
    if options.json:
        print(f"written to {options.json}")


if __name__ == "__main__":
    run(main)
