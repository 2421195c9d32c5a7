"""Whether one hears where chunks meet: `python -m benchmarks.seams --model MODEL --root data --json OUT.json`.

Mixtures of two held-out works are separated twice, the second time shifted by half a hop, so that the chunks of one
meet where those of the other have their middle. At the same samples, levels are compared between the two, and SI-SDR
against the truth between where chunks meet and where they have their middle. "Elsewhere" is where chunks meet in
neither: there the two differ only because the chunks were cut differently.
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks.timing import rows
from data_pipelines.progress import Progress
from data_pipelines.testlist import AUDIBLE, TestList, draw, waveforms
from qsep_jax.command_line import console
from qsep_jax.inference.chunks import ChunkPlan, plan_of
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.separation import separate
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.ratios import si_sdr
from qsep_jax.runs.bundle import find_model

EXAMPLE = "python -m benchmarks.seams --root data --json seams.json"


@dataclasses.dataclass(frozen=True)
class Seams:
    """Levels and SI-SDR where chunks meet against where they have their middle.

    Attributes:
      json: where the rows go.
      model: a run folder, a bundle or the name of a carried one; by default the carried one.
      root: folder of the prepared corpora.
      mixtures: how many pairs of works.
      seconds: of a mixture.
    """

    json: Path
    model: str = ""
    root: str = "data"
    mixtures: int = 20
    seconds: float = 20.0


def meetings(plan: ChunkPlan, length: int, shift: int = 0) -> np.ndarray:
    """Where the fades between two chunks begin, in a signal that `shift` samples of silence were put in front of."""
    starts = np.arange(plan.hop, length + shift, plan.hop) - plan.fade - shift
    return starts[(starts >= 0) & (starts + plan.fade <= length)]


def stretches(signal: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """`[places, size · C]` of a signal `[T, C]`."""
    return np.stack([signal[start : start + size].ravel() for start in starts])


def compare(truth: np.ndarray, seam: np.ndarray, middle: np.ndarray) -> dict[str, np.ndarray]:
    """Of the same places `[places, n]`, once where chunks meet and once in their middle: levels in dB of one against
    the other, in each place that can be heard and in all of them together, and the SI-SDR of both."""
    energies = [np.square(signal).mean(axis=1) for signal in (seam, middle)]
    heard = np.minimum(*energies) > AUDIBLE**2
    levels = 10.0 * np.log10(energies[0][heard] / energies[1][heard])
    together = 10.0 * np.log10(energies[0].sum() / energies[1].sum())
    ratios = [float(si_sdr(jnp.asarray(truth.ravel()), jnp.asarray(signal.ravel()))) for signal in (seam, middle)]
    return {"levels": levels, "together": np.array([together]), "si_sdr": np.array([ratios])}


def measure(options: Seams) -> rows.Row:
    source = find_model(options.model)
    experiment, model = source.load()
    stream, rate = experiment.judged, model.system.sample_rate
    corpus = stream.open(options.root, stream.corpora[0], rate, "test")
    settings = TestList(kind="pairs", mixtures=options.mixtures, seconds=options.seconds)
    plan, found = plan_of(model.system), []
    shift, size = plan.hop // 2, plan.fade
    items = [item for item in draw(settings, corpus) if item.target == 0]
    with Progress("separating", len(items), unit="mixture") as progress:
        for item in items:
            mixture, sources, query = waveforms(item, corpus, settings)
            condition, truth = encode(model, query), sources[item.target]
            plain = separate(model, mixture, condition)[0]
            shifted = separate(model, np.pad(mixture, ((shift, 0), (0, 0))), condition)[0][shift:]
            here, there = meetings(plan, len(mixture)), meetings(plan, len(mixture), shift)
            at = [stretches(signal, here, size) for signal in (truth, plain, shifted)]
            other = [stretches(signal, there, size) for signal in (truth, shifted, plain)]
            found.append(compare(*(np.concatenate(both) for both in zip(at, other, strict=True))))
            between = here[:-1] + plan.hop // 4  # where chunks meet in neither
            apart = compare(*(stretches(signal, between, size) for signal in (truth, plain, shifted)))
            found[-1]["elsewhere"] = apart["levels"]
            progress.advance()
    levels, together, ratios, elsewhere = (np.concatenate([each[name] for each in found]) for name in found[0])
    difference = summarize(ratios[:, 0] - ratios[:, 1])
    return {
        "benchmark": "seams",
        "system": type(model.system).__name__,
        "model": source.path.name,
        "mixtures": len(items),
        "seconds": options.seconds,
        "seams": len(levels),
        "level_mean_db": float(levels.mean()),
        "level_of_a_mixture_max_db": float(np.abs(together).max()),
        "level_abs_median_db": float(np.median(np.abs(levels))),
        "level_abs_p95_db": float(np.percentile(np.abs(levels), 95)),
        "level_abs_max_db": float(np.abs(levels).max()),
        "elsewhere_abs_median_db": float(np.median(np.abs(elsewhere))),
        "elsewhere_abs_p95_db": float(np.percentile(np.abs(elsewhere), 95)),
        "elsewhere_abs_max_db": float(np.abs(elsewhere).max()),
        "si_sdr_seam_db": float(ratios[:, 0].mean()),
        "si_sdr_middle_db": float(ratios[:, 1].mean()),
        "si_sdr_difference_db": difference.mean,
        "si_sdr_difference_ci95_db": difference.ci95,
    }


def main() -> None:
    options = console.parse(Seams, "python -m benchmarks.seams", EXAMPLE)
    console.cache_compilations()
    rows.check_writable(options.json)
    row = measure(options)
    print(
        "\n".join(
            f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}" for name, value in row.items()
        )
    )
    rows.write(options.json, [{**row, **rows.circumstances("jax", "numpy")}])


if __name__ == "__main__":
    console.run(main)
