"""The objective of the paper beside that of the quickstart.

`python -m benchmarks.papers.lee2019.objectives --record DIR --out DIR`

Eq. 3 to 6 weight the reconstruction by 10, the KL divergence by 0.01 and the latent regression by 0.5. The quickstart
has no latent regression, a hundredth of the KL weight, and small initial variances of the latent.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import published, tabulation
from benchmarks.papers.records import Record
from benchmarks.papers.tabulation import RecordOptions
from data_pipelines import console
from qsep_jax.metrics.aggregate import summarize

EXAMPLE = "python -m benchmarks.papers.lee2019.objectives --record records --out objectives"


@dataclasses.dataclass(frozen=True)
class Objectives(RecordOptions):
    """Compare trainings with different weights of the losses, from their records."""

    out: Path = Path("evaluation/lee2019/objectives")


def row_of(record: Record) -> dict[str, Any]:
    """The row of a run: weights, budget, and the improvement over the mixture, with its interval over targets."""
    system = record.config["system"]
    gains = np.array([row["model"] - row["mixture"] for row in record.scores])
    weights = {name: system[name] for name in ("kl_weight", "latent_weight", "initial_log_variance")}
    facts = {"run": record.run, "seed": record.config["train"]["seed"], **weights, **record.budget, **record.data}
    return {**facts, **dataclasses.asdict(summarize(gains)), "made_worse": float((gains < 0).mean())}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table with a line for each run."""
    columns = ["run", "λ_KL", "λ_latent", "initial log σ²", "seed", "steps", "audio heard, share of the paper's"]
    columns += ["targets", "improvement in SI-SDR, mean ± 95 % over targets", "median", "made worse"]
    lines = [
        [
            row["run"],
            *(f"{row[name]:g}" for name in ("kl_weight", "latent_weight", "initial_log_variance", "seed", "steps")),
            f"{100 * row['share_of_paper']:.2f} %",
            str(row["count"]),
            f"{row['mean']:+.2f} ± {row['ci95']:.2f}",
            f"{row['median']:+.2f}",
            f"{100 * row['made_worse']:.0f} %",
        ]
        for row in rows
    ]
    return published.markdown(f"{rows[0]['corpus']}, {rows[0]['split']} split; dB", columns, lines)


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The Markdown text of the table, `objectives`."""
    return {"objectives": table([row_of(record) for record in records])}


def results(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The rows and the text of the table."""
    rows = [row_of(record) for record in records]
    return rows, table(rows)


def main() -> None:
    tabulation.main(Objectives, "python -m benchmarks.papers.lee2019.objectives", EXAMPLE, results)


if __name__ == "__main__":
    console.run(main)
