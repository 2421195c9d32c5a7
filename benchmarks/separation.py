"""Measure the separation of long files: `python -m benchmarks.separation --seconds 600 10800 --json OUT.json`.

For each length, the benchmark measures time and memory of the query-based separation of one synthetic stereo file, as
`qsep_jax.separate` does it, in a process of its own. Memory is the peak above the memory that the process has after it
has loaded the model and separated a short file, so that it shows the part that depends on the length of a file.
"""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.memory import check_memory, memory, settle
from benchmarks.timing.rounds import facts_of
from data_pipelines.audio.reading import BLOCK, AudioFile
from data_pipelines.audio.writing import AudioWriter, format_for
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.files import separate_file
from qsep_jax.runs.bundle import describe, find_model
from qsep_jax.runs.folder import environment

EXAMPLE = "python -m benchmarks.separation --seconds 600 10800 --json separation.json"
COLUMNS = ("seconds", "median_s", "real_time_factor", "idle_mib", "peak_above_idle_mib", "hwm_above_idle_mib")
COLUMNS += ("output_frames", "output_bytes")
SAMPLE_RATE, CHANNELS, SUBTYPE = 44_100, 2, "PCM_16"
QUERY_S, WARM_UP_S, SAMPLING_S = 5.0, 20.0, 0.05


@dataclasses.dataclass(frozen=True)
class Separation:
    """Measure time and memory of the separation of long files: 44.1 kHz, stereo, 16 bits.

    Attributes:
      json: JSON file to which the rows are added; by default they are only printed.
      model: Run folder, bundle or name of a bundled model that accepts a query (by default, the default bundled model).
      seconds: Lengths of the files in seconds; a file needs 350 kB per second in the temporary folder (TMPDIR).
      seed: Seed of the files; a shorter file is the beginning of a longer one.
    """

    json: Path | None = None
    model: str = ""
    seconds: tuple[float, ...] = (600.0, 10_800.0)
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError for invalid options. A constructor would not do: tyro draws a box around its errors."""
        if not self.seconds or min(self.seconds) <= 0:
            lengths = " ".join(f"{seconds:g}" for seconds in self.seconds) or "-"
            raise ValueError(f"--seconds must be positive, not {lengths}")
        check_memory()


def signal(frames: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks `[n, C]` float32 of noise and of tones whose pitch slowly rises and falls."""
    rng = np.random.default_rng(seed)
    pitches, rates = rng.uniform(80.0, 1200.0, 4), rng.uniform(0.02, 0.3, 4)
    gains, phases = rng.uniform(0.02, 0.12, (4, CHANNELS)), np.zeros(4)
    for start in range(0, frames, BLOCK):
        t = (start + np.arange(BLOCK)[:, None]) / SAMPLE_RATE
        angles = (
            phases + np.cumsum(2 * np.pi * pitches * 2 ** (0.5 * np.sin(2 * np.pi * rates * t)), axis=0) / SAMPLE_RATE
        )
        phases = angles[-1] % (2 * np.pi)
        block = np.sin(angles) @ gains + 0.02 * rng.standard_normal((BLOCK, CHANNELS), np.float32)
        yield block[: frames - start].astype(np.float32)


def write_signal(path: Path, seconds: float, seed: int) -> None:
    """Write the file to separate, block by block."""
    frames = round(seconds * SAMPLE_RATE)
    container, subtype = format_for(path, SUBTYPE, frames * CHANNELS)
    with (
        AudioWriter(path, SAMPLE_RATE, CHANNELS, subtype, container) as file,
        Progress(f"writing a file of {seconds:g} s", frames, unit="sample") as progress,
    ):
        for block in signal(frames, seed):
            file.write(block)
            progress.advance(len(block))


def tone(samples: int, rate: int) -> np.ndarray:
    """The query `[T, 1]`: a decaying tone of four harmonics, repeated every second."""
    t = np.arange(samples) / rate
    harmonics = sum(np.sin(2 * np.pi * 220.0 * k * t) / k for k in (1, 2, 3, 4))
    return (0.2 * harmonics * np.exp(-3.0 * (t % 1.0)))[:, None].astype(np.float32)


class MemoryMonitor:
    """Measures the memory of this process in a `with` block, MiB.

    Attributes:
      idle: Memory at the beginning.
      sampled: Highest of the samples that are taken every 50 ms.
      high_water: Peak memory as the kernel counts it.
    """

    def __enter__(self) -> "MemoryMonitor":
        self.idle = self.sampled = self.high_water = settle()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.high_water = memory("VmHWM")

    def _watch(self) -> None:
        while not self._over.wait(SAMPLING_S):
            self.sampled = max(self.sampled, memory())


def make_separation(model_name: str, short: Path, long: Path, out: Path) -> tuple[Callable[[], None], rows.Row]:
    """Separate `short`, which compiles, and then `long` (`rounds.Make`; the facts are the result, `run` does nothing).

    Raises:
      ValueError: if the model accepts no query, or if the output does not have the length of the input.
    """
    console.cache_compilations()
    saved = find_model(model_name)
    experiment, model = saved.load()
    system = model.system
    if "query" not in system.cues:
        raise ValueError(
            f"{saved.path} accepts {', '.join(system.cues) or 'no cue'}, not a query: give another --model"
        )
    condition = encode(model, tone(round(QUERY_S * system.sample_rate), system.sample_rate))
    separate_file(AudioFile(short), model, [condition], [out])
    file = AudioFile(long)
    with Progress(f"separating {long.stem}", file.frames, unit="sample") as progress, MemoryMonitor() as monitor:
        start = time.perf_counter()
        (written,) = separate_file(file, model, [condition], [out], advance=progress.advance)
        seconds = time.perf_counter() - start
    output = AudioFile(out)
    if not file.frames == written.frames == output.frames:
        raise ValueError(
            f"the output has {output.frames} frames, not {file.frames} ({written.frames} were reported as written)"
        )
    here: rows.Row = environment()
    return lambda: None, {
        **rows.summary([seconds]),
        "real_time_factor": file.frames / file.sample_rate / seconds,
        "idle_mib": monitor.idle,
        "peak_mib": max(monitor.sampled, monitor.high_water),
        "peak_above_idle_mib": monitor.sampled - monitor.idle,
        "hwm_above_idle_mib": monitor.high_water - monitor.idle,
        "output_frames": output.frames,
        "output_bytes": out.stat().st_size,
        "output": f"{output.container} {output.subtype}",
        "input_bytes": long.stat().st_size,
        "system": type(system).__name__,
        "model": describe(saved),
        "model_sample_rate": system.sample_rate,
        "precision": experiment.train.precision,
        "devices": len(here["devices"]),
        "device": here["devices"][0],
    }


def measure(options: Separation) -> list[rows.Row]:
    """One row per length, without `rows.circumstances`.

    Raises:
      ValueError: if the model does not exist or accepts no query.
    """
    find_model(options.model)  # reports a wrong name before files are written
    measured = []
    with tempfile.TemporaryDirectory(prefix="separation") as temporary:
        short, out = Path(temporary) / "short.wav", Path(temporary) / "separated.wav"
        write_signal(short, WARM_UP_S, options.seed + 1)
        # This run fills the cache of compiled programs, so that all lengths start alike.
        facts_of("warm-up", make_separation, options.model, short, short, out)
        for seconds in options.seconds:
            long = short.with_name(f"{seconds:g}_s.wav")
            write_signal(long, seconds, options.seed)
            facts = facts_of(f"separation of {seconds:g} s", make_separation, options.model, short, long, out)
            long.unlink()
            settings = {"benchmark": "separation", "implementation": "jax", "batch": 1, "seconds": seconds}
            settings |= {"sample_rate": SAMPLE_RATE, "channels": CHANNELS, "subtype": SUBTYPE, "seed": options.seed}
            measured.append(settings | facts)
    return with_ratios(measured)


def with_ratios(measured: list[rows.Row]) -> list[rows.Row]:
    """The rows; the row of the longest file also has its length and memory relative to the shortest file."""
    shortest, longest = (choose(measured, key=lambda row: row["seconds"]) for choose in (min, max))
    if shortest is longest:
        return measured
    fields = ("peak_mib", "peak_above_idle_mib", "hwm_above_idle_mib")
    ratios = {name: longest[name] / shortest[name] if shortest[name] > 0 else None for name in fields}
    relative = {"ratio_to_shortest": {"seconds": longest["seconds"] / shortest["seconds"], **ratios}}
    return [row | relative if row is longest else row for row in measured]


def main() -> None:
    options = console.parse(Separation, "python -m benchmarks.separation", EXAMPLE)
    options.check()
    rows.check_writable(options.json)
    measured = measure(options)
    circumstances = rows.circumstances("jax", "jaxlib", "flax", "numpy", "soundfile", "soxr")
    rows.write(options.json, [row | circumstances for row in measured])
    model = ", ".join(f"{name} {value}" for name, value in measured[0]["model"].items())
    print(f"query-based separation of stereo files at {SAMPLE_RATE} Hz, {measured[0]['system']}, {model}")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if ratios := row.get("ratio_to_shortest"):
            listed = ", ".join(f"{name} ×{ratio:.3g}" for name, ratio in ratios.items() if ratio is not None)
            print(f"longest file relative to the shortest: {listed}")
    if options.json:
        print(f"written to {options.json}")


if __name__ == "__main__":
    console.run(main)
