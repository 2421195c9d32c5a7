"""Time adaptation to songs, one by one and many in one program: `python -m benchmarks.adaptation --json OUT.json`.

The songs are noise. As in `adapt`, each has its own parameters, optimizer and activations. The benchmark measures
seconds per update of a song, without compilation. The modes take turns, so that a slow round slows all of them.
"""

import dataclasses
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.memory import memory
from qsep_jax.command_line import console
from qsep_jax.inference.adaptation import Batching, Song, adapt
from qsep_jax.inference.model import Model
from qsep_jax.runs.experiment import load_config
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.systems.one_shot import Adaptation

EXAMPLE = "python -m benchmarks.adaptation --config configs/cantisani2021.py:small --songs 8 --json adaptation.json"
COLUMNS = ("implementation", "songs", "together", "updates", "median_s", "p90_s", "ratio", "peak_mib")


@dataclasses.dataclass(frozen=True)
class AdaptationTime:
    """Time an update of an adaptation, for songs one by one and for all songs in one program.

    Attributes:
      json: JSON file to which the rows are added; by default they are only printed.
      config: Config of the system; its parameters are freshly initialised.
      songs: Number of songs to adapt to.
      updates: Number of updates for each song.
      split: Split of the parameters that is trained (by default, the config's).
      rounds: Number of times that each mode is timed, in turns.
    """

    json: Path | None = None
    config: str = "configs/cantisani2021.py:small"
    songs: int = 8
    updates: int = 20
    split: str = ""
    rounds: int = 3


def songs_of_noise(system: System, count: int, updates: int, settings: Adaptation) -> list[Song]:
    """Songs with as many chunks as `updates`; in each, one stem is silent for the first half."""
    samples = round((settings.seconds + (updates - 1) * settings.hop) * system.sample_rate)
    songs, stems = [], len(system.stems)
    for number in range(count):
        rng = np.random.default_rng(number)
        active = np.ones((stems, samples), bool)
        active[number % stems, : samples // 2] = False
        mixture = 0.1 * rng.standard_normal((samples, system.input_channels), np.float32)
        songs.append(Song(f"song{number}", mixture, active))
    return songs


def seconds_per_update(model: Model, songs: list[Song], settings: Adaptation, together: int, how: Batching) -> float:
    """Seconds per update of a song, counted from the first progress report, which follows compilation."""
    reports: list[float] = []

    def advance(_: int) -> None:
        reports.append(time.perf_counter())

    adapted_songs = adapt(model, songs, settings, together=together, how=how, advance=advance)
    updates = sum(len(adapted.losses["loss"]) for adapted in adapted_songs)
    return (time.perf_counter() - reports[0]) / updates


def measure(options: AdaptationTime) -> list[rows.Row]:
    """One row per mode, without `rows.circumstances`.

    Raises:
      ValueError: if the config is of another system.
    """
    system = load_config(options.config).system
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{options.config} is for {type(system).__name__}: give a variant of configs/cantisani2021.py")
    settings = dataclasses.replace(system.adaptation, epochs=1)
    if options.split:
        settings = dataclasses.replace(settings, trainable=system.adaptation_presets()[options.split])
    model = Model(system, jax.jit(lambda: system.init(jax.random.key(0), {}))())
    songs = songs_of_noise(system, options.songs, options.updates, settings)
    modes: dict[str, tuple[int, Batching]] = {
        "one by one": (1, "map"),
        "map": (options.songs, "map"),
        "vmap": (options.songs, "vmap"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    for _ in range(options.rounds):
        for name, (together, how) in modes.items():
            seconds[name].append(seconds_per_update(model, songs, settings, together, how))
    device = jax.devices()[0]
    common = {"benchmark": "adaptation", "system": type(system).__name__, "config": options.config, "batch": 1}
    common |= {"implementation": "jax", "precision": system.compute_dtype, "devices": jax.local_device_count()}
    common |= {"device": device.device_kind, "songs": options.songs, "updates": options.updates}
    common |= {"split": options.split or "the config's", "peak_mib": memory("VmHWM")}
    return [
        {
            **common,
            "implementation": f"jax, {name}",
            "together": together,
            **rows.summary(seconds[name]),
            "ratio": rows.paired_ratio(seconds[name], seconds["one by one"]),
        }
        for name, (together, _) in modes.items()
    ]


def main() -> None:
    options = console.parse(AdaptationTime, "python -m benchmarks.adaptation", EXAMPLE)
    if min(options.songs, options.updates, options.rounds) < 1:
        raise ValueError("--songs, --updates and --rounds must be at least 1")
    rows.check_writable(options.json)
    console.cache_compilations()
    measured = measure(options)
    circumstances = rows.circumstances("jax", "jaxlib", "optax", "numpy")
    rows.write(options.json, [row | circumstances for row in measured])
    print(f"seconds per update of a song, {options.config}, {options.rounds} rounds in turns")
    print(rows.table(measured, COLUMNS))


if __name__ == "__main__":
    console.run(main)
