"""Measure the seams between chunks: `python -m benchmarks.seams --model MODEL --root data --json OUT.json`.

Mixtures of two held-out works are separated twice, the second time shifted by half a hop. Where two chunks overlap in
one separation, a chunk has its middle in the other. At these samples, the benchmark compares the levels of the two
separations, and their SI-SDR against the reference. "Elsewhere" means samples at which chunks overlap in neither
separation: there, the two differ only because the chunks were cut at different places.
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
    """Compare levels and SI-SDR at the seams between chunks with those in the middle of chunks.

    Attributes:
      json: JSON file to which the row is added; by default it is only printed.
      model: Run folder, bundle or name of a bundled model (by default, the default bundled model).
      root: Folder of the prepared corpora.
      mixtures: Number of pairs of works.
      seconds: Length of a mixture in seconds.
    """

    json: Path | None = None
    model: str = ""
    root: str = "data"
    mixtures: int = 20
    seconds: float = 20.0


def seam_starts(plan: ChunkPlan, length: int, shift: int = 0) -> np.ndarray:
    """The samples at which the fades between two chunks begin, if `shift` samples of silence precede the signal."""
    starts = np.arange(plan.hop, length + shift, plan.hop) - plan.fade - shift
    return starts[(starts >= 0) & (starts + plan.fade <= length)]


def segments_at(signal: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """The segments of `size` samples of a signal `[T, C]` that begin at `starts`, `[segments, size · C]`."""
    return np.stack([signal[start : start + size].ravel() for start in starts])


def compare(reference: np.ndarray, seam: np.ndarray, middle: np.ndarray) -> dict[str, np.ndarray]:
    """Compare the same segments `[segments, n]`, separated at a seam and in the middle of a chunk.

    Returns:
      levels: Level at the seam relative to the middle, dB, for each audible segment.
      together: The same over all segments, `[1]`.
      si_sdr: SI-SDR at the seam and in the middle over all segments, dB, `[1, 2]`.
    """
    energies = [np.square(signal).mean(axis=1) for signal in (seam, middle)]
    audible = np.minimum(*energies) > AUDIBLE**2
    levels = 10.0 * np.log10(energies[0][audible] / energies[1][audible])
    total_level = 10.0 * np.log10(energies[0].sum() / energies[1].sum())
    ratios = [float(si_sdr(jnp.asarray(reference.ravel()), jnp.asarray(signal.ravel()))) for signal in (seam, middle)]
    return {"levels": levels, "together": np.array([total_level]), "si_sdr": np.array([ratios])}


def measure(options: Seams) -> rows.Row:
    """The row of the benchmark, without `rows.circumstances`."""
    saved = find_model(options.model)
    experiment, model = saved.load()
    stream, rate = experiment.judged, model.system.sample_rate
    corpus = stream.open(options.root, stream.corpora[0], rate, "test")
    settings = TestList(kind="pairs", mixtures=options.mixtures, seconds=options.seconds)
    plan, comparisons = plan_of(model.system), []
    shift, size = plan.hop // 2, plan.fade
    items = [item for item in draw(settings, corpus) if item.target == 0]
    with Progress("separating", len(items), unit="mixture") as progress:
        for item in items:
            mixture, sources, query = waveforms(item, corpus, settings)
            condition, reference = encode(model, query), sources[item.target]
            plain = separate(model, mixture, condition)[0]
            shifted = separate(model, np.pad(mixture, ((shift, 0), (0, 0))), condition)[0][shift:]
            plain_starts, shifted_starts = seam_starts(plan, len(mixture)), seam_starts(plan, len(mixture), shift)
            plain_seams = [segments_at(signal, plain_starts, size) for signal in (reference, plain, shifted)]
            shifted_seams = [segments_at(signal, shifted_starts, size) for signal in (reference, shifted, plain)]
            comparison = compare(*(np.concatenate(pair) for pair in zip(plain_seams, shifted_seams, strict=True)))
            between = plain_starts[:-1] + plan.hop // 4  # chunks overlap here in neither separation
            elsewhere = compare(*(segments_at(signal, between, size) for signal in (reference, plain, shifted)))
            comparisons.append({**comparison, "elsewhere": elsewhere["levels"]})
            progress.advance()
    levels, together, ratios, elsewhere = (
        np.concatenate([comparison[name] for comparison in comparisons]) for name in comparisons[0]
    )
    difference = summarize(ratios[:, 0] - ratios[:, 1])
    return {
        "benchmark": "seams",
        "system": type(model.system).__name__,
        "model": saved.path.name,
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
