"""§4.7, Table 1: `python -m benchmarks.papers.lee2019.table --workdir RUN`.

Medians of the SDR by stem under the paper's table. Its numbers hold for MUSDB18: on any other corpus ours say nothing
against or for them.
"""

import dataclasses
from typing import Any

from benchmarks.papers import published
from benchmarks.papers.lee2019.iteration import PAPER
from benchmarks.papers.lee2019.scores import WholeTracks, frames, on_tracks, scoring, title
from benchmarks.papers.lee2019.setting import begin, need_stems
from data_pipelines.schema import FOUR_STEMS
from qsep_jax.command_line import console
from qsep_jax.figures.scores import boxes
from qsep_jax.metrics.aggregate import summarize_tracks

EXAMPLE = "python -m benchmarks.papers.lee2019.table --workdir runs/band"
# Table 1: MUSDB18, in the order of FOUR_STEMS. Its row "mean" holds what §4.6 gives for the iterative method.
PUBLISHED = {
    "STL2": (3.25, 4.22, 3.21, 2.25),
    "WK": (3.76, 4.00, 2.94, 2.43),
    "RGT1": (3.85, 3.44, 2.70, 2.63),
    "JY3": (5.74, 4.66, 3.67, 3.40),
    "UHL2": (5.93, 5.92, 5.03, 4.19),
    "TAK1": (6.60, 6.43, 5.16, 4.15),
    "Lee 2019 (mean)": tuple(PAPER[stem][1] for stem in FOUR_STEMS),
    "Lee 2019 (GT)": (5.48, 4.59, 3.45, 3.26),
}
ASKS = ("mean", "iterative", "gt")
NAMES = {"mean": "mean", "iterative": "iterative", "gt": "GT"}


@dataclasses.dataclass(frozen=True)
class Table(WholeTracks):
    """Set the medians of a run, asked by class means, iteratively and by the true stems, under the paper's table."""


def comparable(corpus: str, split: str, tracks: int) -> str:
    """How far our rows can be set against the paper's."""
    if (corpus, split) != ("musdb18", "test"):
        return f"{corpus}, {split}: NOT comparable with MUSDB18"
    return "MUSDB18, all 50 test tracks" if tracks == 50 else f"MUSDB18, but {tracks} of 50 tracks: NOT comparable"


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The paper's rows, then ours."""
    theirs = [
        [name, *(f"{value:.2f}" for value in values), "MUSDB18, as published"] for name, values in PUBLISHED.items()
    ]
    ours = []
    for ask in ASKS:
        found = {row["stem"]: row for row in rows if row["ask"] == ask}
        cells = [f"{found[stem]['median']:.2f}" if stem in found else "–" for stem in FOUR_STEMS]
        ours.append([f"this run ({NAMES[ask]})", *cells, rows[0]["holds_for"]])
    columns = ["system", *FOUR_STEMS, "data"]
    single = ", ".join(f"{PAPER[stem][0]:.2f}" for stem in FOUR_STEMS)
    note = (
        "\nPublished rows: Table 1 of Lee et al. 2019. SiSEC 2018 scored the six systems at 44.1 kHz in stereo; how "
        'the paper scored its own it does not say. Its "mean" row has the iterative numbers of §4.6; a single step is '
        f"given there as {single}.\n"
    )
    return published.markdown(f"This run: {heading}; dB, medians over tracks", columns, theirs + ours) + note


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.lee2019.table", EXAMPLE)
    subject = begin(options, "table", EXAMPLE)
    corpus = subject.corpus(channels=options.channels)
    need_stems(corpus, *FOUR_STEMS)
    scored = on_tracks(subject, options, corpus, ASKS)
    holds_for = comparable(subject.corpus_name, corpus.split, len({scores.track for scores in scored}))
    rows = []
    for ask in ASKS:
        for stem in FOUR_STEMS:
            summary = dataclasses.asdict(summarize_tracks(frames(scored, f"model_{ask}", stem)))
            rows.append(subject.row(scoring(corpus), ask=ask, stem=stem, metric="SDR", **summary, holds_for=holds_for))
    heading = f"{rows[0]['run']} on {subject.corpus_name}, {corpus.split}: SDR by BSS Eval v4"
    boxes(scored, heading, subject.out / "boxes.png")
    published.publish(subject.out, rows, table(rows, title(rows, scored)))


if __name__ == "__main__":
    console.run(main)
