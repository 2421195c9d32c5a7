"""What long files cost: `python -m benchmarks.separation --seconds 600 10800 --json OUT.json`.

Time and memory of separating one synthetic stereo file of each length by example, as `qsep_jax.separate` does it, each
in a process of its own. Memory is what the process holds at its most above what it held when the model was loaded and
had separated a short file: what does not depend on the length of a file is the same for all lengths.
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
    """Measure time and memory of separating long files: 44.1 kHz, stereo, 16 bits.

    Attributes:
      json: file to write the rows to.
      model: a run folder, a bundle or the name of a carried one, that accepts a query; by default the carried one.
      seconds: lengths of the files. One needs 350 kB of room per second in the temporary folder (TMPDIR).
      seed: of the files; a shorter one is the beginning of a longer one.
    """

    json: Path | None = None
    model: str = ""
    seconds: tuple[float, ...] = (600.0, 10_800.0)
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError for what cannot be measured; not on construction, where tyro would draw a box around it."""
        if not self.seconds or min(self.seconds) <= 0:
            raise ValueError(f"--seconds must be positive, not {' '.join(f'{each:g}' for each in self.seconds) or '-'}")
        check_memory()


def signal(frames: int, seed: int) -> Iterator[np.ndarray]:
    """Tones whose pitch slowly comes and goes, and noise: blocks `[n, C]` float32."""
    rng = np.random.default_rng(seed)
    pitches, wanders = rng.uniform(80.0, 1200.0, 4), rng.uniform(0.02, 0.3, 4)
    gains, phases = rng.uniform(0.02, 0.12, (4, CHANNELS)), np.zeros(4)
    for start in range(0, frames, BLOCK):
        t = (start + np.arange(BLOCK)[:, None]) / SAMPLE_RATE
        angles = (
            phases + np.cumsum(2 * np.pi * pitches * 2 ** (0.5 * np.sin(2 * np.pi * wanders * t)), axis=0) / SAMPLE_RATE
        )
        phases = angles[-1] % (2 * np.pi)
        block = np.sin(angles) @ gains + 0.02 * rng.standard_normal((BLOCK, CHANNELS), np.float32)
        yield block[: frames - start].astype(np.float32)


def write_signal(path: Path, seconds: float, seed: int) -> None:
    """The file to separate, never whole in memory."""
    frames = round(seconds * SAMPLE_RATE)
    container, subtype = format_for(path, SUBTYPE, frames * CHANNELS)
    with (
        AudioWriter(path, SAMPLE_RATE, CHANNELS, subtype, container) as file,
        Progress(f"making a file of {seconds:g} s", frames, unit="sample") as progress,
    ):
        for block in signal(frames, seed):
            file.write(block)
            progress.advance(len(block))


def tone(samples: int, rate: int) -> np.ndarray:
    """The query, `[T, 1]`: a tone of four harmonics, struck every second."""
    t = np.arange(samples) / rate
    harmonics = sum(np.sin(2 * np.pi * 220.0 * k * t) / k for k in (1, 2, 3, 4))
    return (0.2 * harmonics * np.exp(-3.0 * (t % 1.0)))[:, None].astype(np.float32)


class Watched:
    """`with Watched() as watched: …`: the memory of this process meanwhile, MiB.

    Attributes:
      idle: held at the beginning.
      sampled: held at the most, by looking every 50 ms.
      high_water: held at the most, by the kernel's own count.
    """

    def __enter__(self) -> "Watched":
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
    """Separate `long`, after `short` to compile; the facts are what it took (`rounds.Make`, with nothing left to run).

    Raises:
      ValueError: if the model accepts no query, or an output is not as long as its input.
    """
    console.cache_compilations()
    source = find_model(model_name)
    experiment, model = source.load()
    system = model.system
    if "query" not in system.cues:
        raise ValueError(
            f"{source.path} accepts {', '.join(system.cues) or 'no cue'}, not a query: give another --model"
        )
    condition = encode(model, tone(round(QUERY_S * system.sample_rate), system.sample_rate))
    separate_file(AudioFile(short), model, [condition], [out])
    file = AudioFile(long)
    with Progress(f"separating {long.stem}", file.frames, unit="sample") as progress, Watched() as watched:
        start = time.perf_counter()
        (written,) = separate_file(file, model, [condition], [out], advance=progress.advance)
        seconds = time.perf_counter() - start
    found = AudioFile(out)
    if not file.frames == written.frames == found.frames:
        raise ValueError(f"the output has {found.frames} frames, said to be {written.frames}, not {file.frames}")
    here: rows.Row = environment()
    return lambda: None, {
        **rows.summary([seconds]),
        "real_time_factor": file.frames / file.sample_rate / seconds,
        "idle_mib": watched.idle,
        "peak_mib": max(watched.sampled, watched.high_water),
        "peak_above_idle_mib": watched.sampled - watched.idle,
        "hwm_above_idle_mib": watched.high_water - watched.idle,
        "output_frames": found.frames,
        "output_bytes": out.stat().st_size,
        "output": f"{found.container} {found.subtype}",
        "input_bytes": long.stat().st_size,
        "system": type(system).__name__,
        "model": describe(source),
        "model_sample_rate": system.sample_rate,
        "precision": experiment.train.precision,
        "devices": len(here["devices"]),
        "device": here["devices"][0],
    }


def measure(options: Separation) -> list[rows.Row]:
    """A row per length, without circumstances.

    Raises:
      ValueError: if there is no such model or it accepts no query.
    """
    find_model(options.model)  # a mistake is told before files are made
    measured = []
    with tempfile.TemporaryDirectory(prefix="separation") as temporary:
        short, out = Path(temporary) / "short.wav", Path(temporary) / "separated.wav"
        write_signal(short, WARM_UP_S, options.seed + 1)
        # Leaves the compiled programs in their cache, so that all lengths find them there and start alike.
        facts_of("rehearsal", make_separation, options.model, short, short, out)
        for seconds in options.seconds:
            long = short.with_name(f"{seconds:g}_s.wav")
            write_signal(long, seconds, options.seed)
            facts = facts_of(f"separation of {seconds:g} s", make_separation, options.model, short, long, out)
            long.unlink()
            asked = {"benchmark": "separation", "implementation": "jax", "batch": 1, "seconds": seconds}
            asked |= {"sample_rate": SAMPLE_RATE, "channels": CHANNELS, "subtype": SUBTYPE, "seed": options.seed}
            measured.append(asked | facts)
    return compared(measured)


def compared(measured: list[rows.Row]) -> list[rows.Row]:
    """The rows; that of the longest file has its memory relative to the shortest, too."""
    shortest, longest = (choose(measured, key=lambda row: row["seconds"]) for choose in (min, max))
    if shortest is longest:
        return measured
    held = ("peak_mib", "peak_above_idle_mib", "hwm_above_idle_mib")
    ratios = {name: longest[name] / shortest[name] if shortest[name] > 0 else None for name in held}
    more = {"ratio_to_shortest": {"seconds": longest["seconds"] / shortest["seconds"], **ratios}}
    return [row | more if row is longest else row for row in measured]


def main() -> None:
    options = console.parse(Separation, "python -m benchmarks.separation", EXAMPLE)
    if options.json is None:
        raise ValueError(f"--json is needed. Example: {EXAMPLE}")
    options.check()
    rows.check_writable(options.json)
    measured = measure(options)
    around = rows.circumstances("jax", "jaxlib", "flax", "numpy", "soundfile", "soxr")
    rows.write(options.json, [row | around for row in measured])
    model = ", ".join(f"{name} {value}" for name, value in measured[0]["model"].items())
    print(f"separating stereo files at {SAMPLE_RATE} Hz by example, {measured[0]['system']}, {model}")
    print(rows.table(measured, COLUMNS))
    for row in measured:
        if ratios := row.get("ratio_to_shortest"):
            said = ", ".join(f"{name} ×{ratio:.3g}" for name, ratio in ratios.items() if ratio is not None)
            print(f"longest against shortest: {said}")
    print(f"written to {options.json}")


if __name__ == "__main__":
    console.run(main)
