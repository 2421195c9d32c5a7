"""§4.7, Table 1: `python -m benchmarks.papers.lee2019.table --workdir RUN`.

The table has the paper's rows and, below them, the median SDR of a run by stem. The paper's numbers are for MUSDB18;
results on another corpus cannot be compared with them.
"""

import dataclasses
from typing import Any

from benchmarks.papers import published
from benchmarks.papers.lee2019.context import load_context, require_stems
from benchmarks.papers.lee2019.iteration import PAPER
from benchmarks.papers.lee2019.scores import TrackOptions, frame_scores, protocol_of, scores_of_tracks, title
from data_pipelines.schema import FOUR_STEMS
from qsep_jax.command_line import console
from qsep_jax.evaluation.estimates import QueryMode
from qsep_jax.figures.scores import boxes
from qsep_jax.metrics.aggregate import summarize_tracks

EXAMPLE = "python -m benchmarks.papers.lee2019.table --workdir runs/band"
# Table 1: MUSDB18, in the order of FOUR_STEMS. Its row "mean" has the numbers that §4.6 gives for the iterative method.
PUBLISHED = {
    "STL2": (3.25, 4.22, 3.21, 2.25),
    "WK": (3.76, 4.00, 2.94, 2.43),
    "RGT1": (3.85, 3.44, 2.70, 2.63),
    "JY3": (5.74, 4.66, 3.67, 3.40),
    "UHL2": (5.93, 5.92, 5.03, 4.19),
    "TAK1": (6.60, 6.43, 5.16, 4.15),
    "Lee 2019, class mean": tuple(PAPER[stem][1] for stem in FOUR_STEMS),
    "Lee 2019, latent of the reference source (GT)": (5.48, 4.59, 3.45, 3.26),
}
MODES: tuple[QueryMode, ...] = ("mean", "iterative", "gt")
MODES_BY_SEGMENT: tuple[QueryMode, ...] = ("iterative_segments", "gt_segments")
NAMES = {
    "mean": "class mean",
    "iterative": "iterative",
    "gt": "GT",
    "iterative_segments": "iterative, by segment",
    "gt_segments": "GT, by segment",
}


@dataclasses.dataclass(frozen=True)
class Table(TrackOptions):
    """Compare the median SDR of a run with the paper's table: class means, the iterative method and reference stems.

    Attributes:
      segments: Whether to add rows in which the iterative method and the reference stems condition each segment on the
        latent of the same segment, and not the whole track on the mean over its segments.
      sample_rate: Sample rate of the tracks and their scores in Hz, at which the corpus must be prepared (0: that of
        the model). `--sample-rate 44100 --channels 0` scores as SiSEC 2018 did.
    """

    segments: bool = False
    sample_rate: int = 0

    @property
    def modes(self) -> tuple[QueryMode, ...]:
        """The query modes of our rows."""
        return MODES + (MODES_BY_SEGMENT if self.segments else ())


def comparable(corpus: str, split: str, tracks: int) -> str:
    """A phrase that states the data of our rows, and whether they are comparable with the paper's."""
    if (corpus, split) != ("musdb18", "test"):
        return f"{corpus}, {split}: NOT comparable with MUSDB18"
    return "MUSDB18, all 50 test tracks" if tracks == 50 else f"MUSDB18, but {tracks} of 50 tracks: NOT comparable"


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table: the paper's rows, then the rows of this run."""
    paper = [
        [name, "MUSDB18, as published", *(f"{value:.2f}" for value in values)] for name, values in PUBLISHED.items()
    ]
    ours = []
    for mode in dict.fromkeys(row["ask"] for row in rows):
        by_stem = {row["stem"]: row for row in rows if row["ask"] == mode}
        cells = [f"{by_stem[stem]['median']:.2f}" if stem in by_stem else "–" for stem in FOUR_STEMS]
        ours.append([f"this run, {NAMES[mode]}", rows[0]["holds_for"], *cells])
    columns = ["system", "data", *FOUR_STEMS]
    single = ", ".join(f"{PAPER[stem][0]:.2f}" for stem in FOUR_STEMS)
    note = (
        "\nPublished rows: Table 1 of Lee et al. 2019. SiSEC 2018 scored the six systems at 44.1 kHz in stereo; the "
        'paper does not say how it scored its own system. The row "class mean" has the numbers that §4.6 gives for '
        f"the iterative method; for a single step, §4.6 gives {single}.\n"
    )
    title = f"This run: {heading}; dB, medians over tracks"
    return published.markdown(title, columns, paper + ours, text_columns=2) + note


def main() -> None:
    options = console.parse(Table, "python -m benchmarks.papers.lee2019.table", EXAMPLE)
    context = load_context(options, "table", EXAMPLE)
    corpus = context.corpus(channels=options.channels, sample_rate=options.sample_rate)
    require_stems(corpus, *FOUR_STEMS)
    scores = scores_of_tracks(context, options, corpus, options.modes)
    holds_for = comparable(context.corpus_name, corpus.split, len({track_scores.track for track_scores in scores}))
    rows = []
    for mode in options.modes:
        for stem in FOUR_STEMS:
            summary = dataclasses.asdict(summarize_tracks(frame_scores(scores, f"model_{mode}", stem)))
            facts = {"ask": mode, "stem": stem, "metric": "SDR", **summary, "holds_for": holds_for}
            rows.append(context.row(protocol_of(corpus), **facts))
    heading = f"{rows[0]['run']} on {context.corpus_name}, {corpus.split}: SDR by BSS Eval v4"
    boxes(scores, heading, context.out / "boxes.png")
    published.publish(context.out, rows, table(rows, title(rows, scores)))


if __name__ == "__main__":
    console.run(main)
