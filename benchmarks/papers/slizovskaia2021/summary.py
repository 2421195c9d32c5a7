"""Tables II to IV and the improvement over the mixture from records, over several seeds.

`python -m benchmarks.papers.slizovskaia2021.summary --record DIR --out DIR`

The paper gives standard deviations over segments, and tests as if segments were independent. Segments of one piece
resemble each other, so the intervals of the improvement are over pieces, or over seeds where an experiment was trained
several times.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.papers import published, tabulation
from benchmarks.papers.intervals import difference, over_runs
from benchmarks.papers.records import Record, check_comparable
from benchmarks.papers.slizovskaia2021 import tables as paper_tables
from benchmarks.papers.slizovskaia2021.paper import TABLES
from benchmarks.papers.slizovskaia2021.recorded import from_record
from benchmarks.papers.slizovskaia2021.runs import BASELINES, Key, Run, in_order
from benchmarks.papers.tabulation import RecordOptions
from data_pipelines import console
from qsep_jax.metrics.aggregate import Summary, summarize_few

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.summary --record records --out summary"
# The metrics of stems that sound, whose improvement over the mixture is shown.
IMPROVED = ("SI-SDR", "SDR")
Values = Mapping[Key, float]


@dataclasses.dataclass(frozen=True)
class SummaryOfRecords(RecordOptions):
    """Compare the experiments from their records: the paper's tables, and the improvement over the mixture."""

    out: Path = Path("evaluation/slizovskaia2021/summary")


def over_pieces(values: Values) -> Summary:
    """The mean over segments, with a 95 % interval for segments that resemble each other within a piece.

    It is the interval of a ratio estimator with pieces as clusters, by Student's t with one degree of freedom less than
    there are pieces. With as many segments in each piece, it is the interval over the means of the pieces.
    """
    by_piece: dict[str, list[float]] = {}
    for (piece, _, _), value in values.items():
        by_piece.setdefault(piece, []).append(value)
    everything, count = np.array(list(values.values())), len(by_piece)
    mean = everything.mean()
    interval = 0.0
    if count > 1:
        residuals = np.array([sum(piece) - mean * len(piece) for piece in by_piece.values()])
        error = np.sqrt(count / (count - 1) * np.square(residuals).sum()) / everything.size
        interval = stats.t.ppf(0.975, count - 1) * error
    return Summary(float(mean), float(np.median(everything)), float(interval), count)


def over_seeds(runs: Sequence[Values]) -> Summary:
    """The mean of runs of one experiment with an interval over seeds, or over pieces if there is a single run."""
    if len(runs) == 1:
        return over_pieces(runs[0])
    return summarize_few(np.array([np.mean(list(values.values())) for values in runs]))


def values_of(run: Run, estimate: str, metric: str) -> Values:
    """The scores of an estimate by segment, minus those of the mixture for the metrics in `IMPROVED`."""
    scores = run.values(estimate, metric)
    return difference(scores, run.values("mixture", metric)) if metric in IMPROVED else scores


def base_of(experiment: int) -> int:
    """The experiment that the paper compares an experiment with; 0 for those that are compared with none."""
    if experiment in (1, 6):
        return 0
    in_tables = [name for name, lines in TABLES.items() if any(line.experiment == experiment for line in lines)]
    return paper_tables.BASE_EXPERIMENTS[in_tables[0] if in_tables else "5.4"]


def rows_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each experiment, number of Wiener iterations and metric.

    `difference` is that of the SI-SDR to the experiment that the paper compares it with, over the same segments, with
    the interval over pieces; scores are first averaged over seeds.
    """
    by_experiment: dict[int, list[Run]] = {}
    for run in runs:
        by_experiment.setdefault(run.experiment, []).append(run)
    rows = []
    for number, members in by_experiment.items():
        base = by_experiment.get(base_of(number), [])
        for estimate in (kind for kind in members[0].scores if kind.startswith("model")):
            if number in BASELINES and estimate != members[0].reported:
                continue
            facts = {"experiment": number, "runs": [run.name for run in members], "estimate": estimate}
            facts |= {"seeds": len(members), "share_of_paper": float(np.mean([run.share_of_paper for run in members]))}
            for metric in (*IMPROVED, "PES"):
                values = [values_of(run, estimate, metric) for run in members]
                if all(values) and not (metric == "PES" and number in BASELINES):
                    rows.append({**facts, "metric": metric, **dataclasses.asdict(over_seeds(values))})
            if base and estimate in base[0].scores:
                means = [over_runs([run.values(estimate, "SI-SDR") for run in group]) for group in (members, base)]
                summary = dataclasses.asdict(over_pieces(difference(*means)))
                rows.append({**facts, "metric": "difference", "against": base[0].experiment, **summary})
    return rows


def table(rows: Sequence[Mapping[str, Any]], heading: str) -> str:
    """The Markdown table with a line for each experiment and number of Wiener iterations."""
    cells = {(row["experiment"], row["estimate"], row["metric"]): row for row in rows}
    columns = ["experiment", "exp.", "seeds", "audio heard, share of the paper's", "W", "SI-SDR improvement"]
    columns += ["the paper's", "SDR improvement", "PES", "SI-SDR against", "difference"]
    lines = []
    for number, estimate in dict.fromkeys((row["experiment"], row["estimate"]) for row in rows):
        first = next(row for row in rows if (row["experiment"], row["estimate"]) == (number, estimate))
        line = [_name_of(number), str(number), str(first["seeds"]), f"{100 * first['share_of_paper']:.2f} %"]
        line.append(estimate.removeprefix("model_w"))
        improvements = [_cell(cells.get((number, estimate, metric)), "+") for metric in IMPROVED]
        line += [improvements[0], _improvement_of_paper(number, int(line[-1])), improvements[1]]
        line.append(_cell(cells.get((number, estimate, "PES")), ""))
        paired = cells.get((number, estimate, "difference"))
        lines.append([*line, str(paired["against"]) if paired else "–", _cell(paired, "+")])
    return published.markdown(heading, columns, lines)


def all_tables(records: Sequence[Record]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows and the Markdown text of all tables by their names.

    Tables II to IV have the first seed of each experiment; `improvement` has all seeds.

    Raises:
      ValueError: if the records are not of the same pieces and protocol, or of other systems.
    """
    check_comparable(records)
    runs = in_order([from_record(record) for record in records])
    firsts = [
        _without_seed(run)
        for place, run in enumerate(runs)
        if run.experiment != runs[place - 1].experiment or not place
    ]
    rows = paper_tables.rows_of_tables(firsts)
    seeds = ", ".join(sorted({str(run.seed) for run in firsts}))
    texts = {
        name: text.replace("; dB: mean", f"; seed {seeds}; dB: mean", 1)
        for name, text in paper_tables.texts(firsts, rows).items()
    }
    gains, data = rows_of(runs), records[0].data
    heading = f"Improvement over the mixture. {data['corpus']}, {data['split']} split, {data['tracks']} pieces in "
    heading += f"segments of {data['seconds']:.2f} s; dB, ± 95 %: over seeds, or over pieces for a single seed; the "
    heading += (
        "difference is over the same segments, with its interval over pieces; the paper's improvement is for URMP"
    )
    return [*(row for part in rows.values() for row in part), *gains], {**texts, "improvement": table(gains, heading)}


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The Markdown text of each table by its name: `II`, `III`, `IV`, `5.4` if it was run, and `improvement`."""
    return all_tables(records)[1]


def _without_seed(run: Run) -> Run:
    """The run, named `exp9` if its name is `exp9-0`."""
    return dataclasses.replace(run, name=re.sub(r"^(exp\d+)-\d+$", r"\1", run.name))


def _name_of(number: int) -> str:
    methods = [line.method for lines in TABLES.values() for line in lines if line.experiment == number]
    methods += [line.method for line in paper_tables.ATTEMPTS if line.experiment == number]
    return {1: "U-Net", 6: "linear STFT, w/o conditioning"}.get(number, methods[0] if methods else str(number))


def _improvement_of_paper(number: int, iterations: int) -> str:
    """The paper's mean SI-SDR minus that of its mixture, or a dash where it has none."""
    lines = {(line.experiment, line.wiener): line for name in TABLES for line in TABLES[name] if line.experiment}
    (mixture,) = (line for line in TABLES["II"] if line.method == "input mix")
    line = lines.get((number, iterations))
    if line is None or line.scores[0] is None or mixture.scores[0] is None:
        return "–"
    return f"{line.scores[0][0] - mixture.scores[0][0]:+.1f}"


def _cell(row: Mapping[str, Any] | None, sign: str) -> str:
    return f"{row['mean']:{sign}.2f} ± {row['ci95']:.2f}" if row else "–"


def results(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The rows and the text of the tables."""
    rows, texts = all_tables(records)
    return rows, "\n".join(texts.values())


def main() -> None:
    tabulation.main(SummaryOfRecords, "python -m benchmarks.papers.slizovskaia2021.summary", EXAMPLE, results)


if __name__ == "__main__":
    console.run(main)
