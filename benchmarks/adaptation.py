"""What adapting to songs costs, at once and one by one: `python -m benchmarks.adaptation --json OUT.json`.

Songs of noise, each with its own parameters, optimizer and activations, as `adapt` takes them; seconds per update of a
song, without compilation. The ways take turns, so that what slows a round down slows them all.
"""

import dataclasses
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing import rows
from benchmarks.timing.memory import memory
from qsep_jax.command_line import console
from qsep_jax.inference.adaptation import How, Song, adapt
from qsep_jax.inference.model import Model
from qsep_jax.runs.experiment import load_config
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.systems.one_shot import Adaptation

EXAMPLE = "python -m benchmarks.adaptation --config configs/cantisani2021.py:small --songs 8 --json adaptation.json"
COLUMNS = ("implementation", "songs", "together", "updates", "median_s", "p90_s", "ratio", "peak_mib")


@dataclasses.dataclass(frozen=True)
class AdaptationTime:
    """Measure the update of an adaptation, of songs one by one and of all of them in one program.

    Attributes:
      json: file to write the rows to.
      config: of the system, whose parameters are fresh ones.
      songs: how many are adapted to.
      updates: of each song.
      split: what is trained; the config's own if left out.
      rounds: of every way, in turns.
    """

    json: Path | None = None
    config: str = "configs/cantisani2021.py:small"
    songs: int = 8
    updates: int = 20
    split: str = ""
    rounds: int = 3


def songs_of_noise(system: System, count: int, updates: int, settings: Adaptation) -> list[Song]:
    """Songs just long enough for so many chunks, with the first half of a stem silent."""
    samples = round((settings.seconds + (updates - 1) * settings.hop) * system.sample_rate)
    found, stems = [], len(system.stems)
    for number in range(count):
        rng = np.random.default_rng(number)
        active = np.ones((stems, samples), bool)
        active[number % stems, : samples // 2] = False
        mixture = 0.1 * rng.standard_normal((samples, system.input_channels), np.float32)
        found.append(Song(f"song{number}", mixture, active))
    return found


def timed(model: Model, songs: list[Song], settings: Adaptation, together: int, how: How) -> float:
    """Seconds per update of a song, from when the first was compiled and under way."""
    begun: list[float] = []

    def advance(_: int) -> None:
        begun.append(time.perf_counter())

    updates = sum(
        len(each.losses["loss"]) for each in adapt(model, songs, settings, together=together, how=how, advance=advance)
    )
    return (time.perf_counter() - begun[0]) / updates


def measure(options: AdaptationTime) -> list[rows.Row]:
    system = load_config(options.config).system
    if not isinstance(system, Cantisani2021):
        raise ValueError(f"{options.config} is of {type(system).__name__}: give a variant of configs/cantisani2021.py")
    settings = dataclasses.replace(system.adaptation, epochs=1)
    if options.split:
        settings = dataclasses.replace(settings, trainable=system.adaptation_presets()[options.split])
    model = Model(system, jax.jit(lambda: system.init(jax.random.key(0), {}))())
    songs = songs_of_noise(system, options.songs, options.updates, settings)
    ways: dict[str, tuple[int, How]] = {
        "one by one": (1, "map"),
        "map": (options.songs, "map"),
        "vmap": (options.songs, "vmap"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (together, how) in ways.items():
            seconds[name].append(timed(model, songs, settings, together, how))
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
        for name, (together, _) in ways.items()
    ]


def main() -> None:
    options = console.parse(AdaptationTime, "python -m benchmarks.adaptation", EXAMPLE)
    if options.json is None:
        raise ValueError(f"--json is needed. Example: {EXAMPLE}")
    if min(options.songs, options.updates, options.rounds) < 1:
        raise ValueError("--songs, --updates and --rounds must be at least 1")
    rows.check_writable(options.json)
    console.cache_compilations()
    measured = measure(options)
    around = rows.circumstances("jax", "jaxlib", "optax", "numpy")
    rows.write(options.json, [row | around for row in measured])
    print(f"seconds per update of a song, {options.config}, {options.rounds} rounds in turns")
    print(rows.table(measured, COLUMNS))


if __name__ == "__main__":
    console.run(main)
