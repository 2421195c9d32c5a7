"""Fig. 1 and Fig. 7: `python -m benchmarks.papers.lee2019.latents --workdir RUN`.

The latents of windows of the test stems, drawn by t-SNE: in a colour for each class (Fig. 1), and red where iteration
gains more than 0.4 dB on the track (Fig. 7). What a picture only suggests stands beside it in numbers, taken from the
latents themselves: the silhouette of each class, and how far red and other windows lie from the class mean.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.iteration import MARK_DB, gains, marked
from benchmarks.papers.lee2019.scores import WholeTracks, on_tracks, scoring, title
from benchmarks.papers.lee2019.setting import Subject, begin
from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.inference.bank import make_bank
from qsep_jax.inference.conditions import cosine_distance, is_loud, windows
from qsep_jax.metrics.aggregate import Summary, summarize
from qsep_jax.systems.base import Condition

EXAMPLE = "python -m benchmarks.papers.lee2019.latents --workdir runs/band"


@dataclasses.dataclass(frozen=True)
class Latents(WholeTracks):
    """Draw the latents of the test stems, and say in numbers how the classes keep apart.

    Attributes:
      windows: the most windows of a stem of a track, evenly spread; 0 for all that sound.
      seed: of t-SNE.
    """

    windows: int = 16
    seed: int = 2019


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Windows of test stems, n of them.

    Attributes:
      latents: `[n, Z]`.
      stems, tracks: that they are of, `[n]`.
      distances: from the mean of the class over the training tracks, by cosine, `[n]`.
    """

    latents: np.ndarray
    stems: np.ndarray
    tracks: np.ndarray
    distances: np.ndarray


def collect(subject: Subject, corpus: Corpus, tracks: set[str], most: int) -> Encoded:
    """The latents of sounding windows of every stem of `tracks`."""
    stems = [(stem, track) for stem in corpus.stems for track in corpus.tracks(stem) if track in tracks]
    with Progress("encoding", len(stems), unit="stem") as progress:
        cut = _windows(subject, corpus, stems, most, progress)
        found = make_bank(subject.model, cut).tracks  # one "track" for each window
    rows, means = [], {stem: subject.bank.mean(stem) for stem in found}
    for stem, latents in found.items():
        for name, latent in latents.items():
            rows.append((_flat(latent), stem, name.partition("\n")[2], cosine_distance(latent, means[stem])))
    latents, labels, names, distances = zip(*rows, strict=True)
    return Encoded(np.stack(latents), np.array(labels), np.array(names), np.array(distances))


def _windows(
    subject: Subject, corpus: Corpus, stems: list[tuple[str, str]], most: int, progress: Progress
) -> Iterator[tuple[str, str, np.ndarray]]:
    samples = subject.model.system.query_samples
    for stem, track in progress.over(stems):
        audio = corpus.read(Excerpt(track, stem, 0, corpus.length(track, stem)))
        if is_loud(audio.mean(axis=1)):
            cut = list(windows([audio], samples, f"{track}, {stem}"))
            chosen = np.linspace(0, len(cut) - 1, min(most or len(cut), len(cut))).round().astype(int)
            yield from ((stem, f"{number}\n{track}", cut[number]) for number in chosen)


def _flat(latent: Condition) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(latent)])


def embed(latents: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) in the plane: `[n, 2]`.

    In one thread: on cores that are busy with something else, more of them are slower.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(latents) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(latents)


def silhouettes(latents: np.ndarray, stems: np.ndarray) -> np.ndarray:
    """Of each window, by cosine distance: 1 where only its own class is near, below 0 where another is nearer."""
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(latents, stems, metric="cosine"))


def check_sklearn() -> None:
    """Raise ValueError without scikit-learn, before anything is separated."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("t-SNE needs scikit-learn, which is not installed: pip install -e '.[dev]'")


def distance(found: Encoded, chosen: np.ndarray) -> Summary | None:
    """Distance of the chosen windows from the class mean, averaged over a track, then over tracks."""
    tracks = np.unique(found.tracks[chosen])
    values = [found.distances[chosen & (found.tracks == track)].mean() for track in tracks]
    return summarize(np.array(values)) if values else None


def study(subject: Subject, found: Encoded, red: np.ndarray, protocol: str) -> list[dict[str, Any]]:
    """A row for each stem, and one for all."""
    near, rows = silhouettes(found.latents, found.stems), []
    for stem in ("all", *dict.fromkeys(found.stems.tolist())):
        own = found.stems == stem if stem != "all" else np.ones(len(found.stems), bool)
        numbers: dict[str, Any] = {"windows": int(own.sum()), "silhouette": float(near[own].mean())}
        if stem != "all":
            for name, chosen in {"marked": own & red, "unmarked": own & ~red}.items():
                summary = distance(found, chosen)
                numbers[f"{name}_windows"] = int(chosen.sum())
                numbers[f"{name}_distance"] = dataclasses.asdict(summary) if summary else None
        rows.append(subject.row(protocol, stem=stem, mark_db=MARK_DB, **numbers))
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """A line for each stem."""
    columns = ["stem", "windows", "silhouette", "marked windows", "tracks", "distance: marked", "tracks", "unmarked"]
    lines = []
    for row in rows:
        line = [row["stem"], str(row["windows"]), f"{row['silhouette']:.3f}"]
        if row["stem"] == "all":
            lines.append([*line, *["–"] * 5])
            continue
        cells = []
        for name in ("marked", "unmarked"):
            summary = Summary(**row[f"{name}_distance"]) if row[f"{name}_distance"] else None
            cells += [str(summary.count if summary else 0), published.spread(summary, 3, "")]
        lines.append([*line, str(row["marked_windows"]), *cells])
    what = (
        f"silhouette by cosine distance; marked: tracks that gain more than {MARK_DB:g} dB by iteration; cosine "
        "distance from the class mean of the training tracks, mean over tracks ± 95 %"
    )
    return published.markdown(f"{heading}; {what}", columns, lines)


def main() -> None:
    options = console.parse(Latents, "python -m benchmarks.papers.lee2019.latents", EXAMPLE)
    if options.windows < 0:
        raise ValueError(f"--windows must be 0 or more, not {options.windows}")
    check_sklearn()
    subject = begin(options, "latents", EXAMPLE)
    corpus = subject.corpus(channels=options.channels)
    scored = on_tracks(subject, options, corpus, ("mean", "iterative"))
    found = collect(subject, corpus, {scores.track for scores in scored}, options.windows)
    gained = gains(scored)
    chosen = {stem: marked(gained, stem) for stem in corpus.stems}
    red = np.array([track in chosen[stem] for stem, track in zip(found.stems, found.tracks, strict=True)])
    protocol = f"{scoring(corpus)}; latents of windows of {subject.model.system.query_samples} samples"
    rows, flat = study(subject, found, red, protocol), embed(found.latents, options.seed)
    name = f"{rows[0]['run']} on {subject.corpus_name}, {corpus.split}: t-SNE of {len(flat)} latents"
    figures.classes(flat, found.stems, subject.out / "classes.png", name)
    figures.marked(flat, found.stems, red, subject.out / "gains.png", f"{name}, red: gain > {MARK_DB:g} dB")
    published.publish(subject.out, rows, table(rows, title(rows, scored)))


if __name__ == "__main__":
    console.run(main)
