"""Fig. 1 and Fig. 7: `python -m benchmarks.papers.lee2019.latents --workdir RUN`.

The figures show the latents of windows of the test stems by t-SNE: with a colour for each class (Fig. 1), and with
tracks marked red that gain more than 0.4 dB by iteration (Fig. 7). The table has numbers computed from the latents
themselves: the silhouette of each class, and the distances of marked and other windows from the class mean.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.papers import published
from benchmarks.papers.lee2019 import figures
from benchmarks.papers.lee2019.context import Context, load_context
from benchmarks.papers.lee2019.iteration import MARK_DB, large_gains, track_gains
from benchmarks.papers.lee2019.scores import TrackOptions, protocol_of, scores_of_tracks, title
from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.progress import Progress
from qsep_jax.command_line import console
from qsep_jax.inference.bank import make_bank
from qsep_jax.inference.conditions import cosine_distance, is_loud, windows
from qsep_jax.metrics.aggregate import Summary, summarize
from qsep_jax.systems.base import Condition

EXAMPLE = "python -m benchmarks.papers.lee2019.latents --workdir runs/band"


@dataclasses.dataclass(frozen=True)
class Latents(TrackOptions):
    """Plot the latents of the test stems, and measure the separation of the classes.

    Attributes:
      windows: Maximal number of windows of each stem of a track, evenly spaced (0: all that are not silent).
      seed: Seed of t-SNE.
    """

    windows: int = 16
    seed: int = 2019


@dataclasses.dataclass(frozen=True)
class EncodedWindows:
    """The latents of n windows of test stems.

    Attributes:
      latents: Latents `[n, Z]`.
      stems: Stem of each window, `[n]`.
      tracks: Track of each window, `[n]`.
      distances: Cosine distance of each latent from the mean of its class over the training tracks, `[n]`.
    """

    latents: np.ndarray
    stems: np.ndarray
    tracks: np.ndarray
    distances: np.ndarray


def encode_windows(context: Context, corpus: Corpus, tracks: set[str], limit: int) -> EncodedWindows:
    """Encode at most `limit` windows (0: all) of every stem of `tracks` that is not silent."""
    stems = [(stem, track) for stem in corpus.stems for track in corpus.tracks(stem) if track in tracks]
    with Progress("encoding", len(stems), unit="stem") as progress:
        stem_windows = _windows(context, corpus, stems, limit, progress)
        latents_by_stem = make_bank(context.model, stem_windows).tracks  # one "track" for each window
    rows, means = [], {stem: context.bank.mean(stem) for stem in latents_by_stem}
    for stem, latents in latents_by_stem.items():
        for name, latent in latents.items():
            rows.append((_flat(latent), stem, name.partition("\n")[2], cosine_distance(latent, means[stem])))
    latents, labels, names, distances = zip(*rows, strict=True)
    return EncodedWindows(np.stack(latents), np.array(labels), np.array(names), np.array(distances))


def _windows(
    context: Context, corpus: Corpus, stems: list[tuple[str, str]], limit: int, progress: Progress
) -> Iterator[tuple[str, str, np.ndarray]]:
    samples = context.model.system.query_samples
    for stem, track in progress.over(stems):
        audio = corpus.read(Excerpt(track, stem, 0, corpus.length(track, stem)))
        if is_loud(audio.mean(axis=1)):
            track_windows = list(windows([audio], samples, f"{track}, {stem}"))
            count = len(track_windows)
            chosen = np.linspace(0, count - 1, min(limit or count, count)).round().astype(int)
            yield from ((stem, f"{number}\n{track}", track_windows[number]) for number in chosen)


def _flat(latent: Condition) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(latent)])


def embed(latents: np.ndarray, seed: int) -> np.ndarray:
    """The points `[n, 2]` of latents by t-SNE (van der Maaten & Hinton 2008).

    It runs in one thread, since more threads are slower on busy cores.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(latents) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(latents)


def silhouettes(latents: np.ndarray, stems: np.ndarray) -> np.ndarray:
    """The silhouette of each window by cosine distance: near 1 within its class, below 0 if another class is nearer."""
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(latents, stems, metric="cosine"))


def check_sklearn() -> None:
    """Raise ValueError if scikit-learn is not installed; called before the separation."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("t-SNE needs scikit-learn, which is not installed: pip install -e '.[dev]'")


def mean_distance(encoded: EncodedWindows, chosen: np.ndarray) -> Summary | None:
    """The distance of the chosen windows from the class mean, averaged within tracks, then over tracks."""
    tracks = np.unique(encoded.tracks[chosen])
    values = [encoded.distances[chosen & (encoded.tracks == track)].mean() for track in tracks]
    return summarize(np.array(values)) if values else None


def measure(context: Context, encoded: EncodedWindows, is_marked: np.ndarray, protocol: str) -> list[dict[str, Any]]:
    """A row for all stems, and one for each stem; `is_marked` tells the windows of tracks with large gains."""
    scores, rows = silhouettes(encoded.latents, encoded.stems), []
    for stem in ("all", *dict.fromkeys(encoded.stems.tolist())):
        of_stem = encoded.stems == stem if stem != "all" else np.ones(len(encoded.stems), bool)
        numbers: dict[str, Any] = {"windows": int(of_stem.sum()), "silhouette": float(scores[of_stem].mean())}
        if stem != "all":
            for name, chosen in {"marked": of_stem & is_marked, "unmarked": of_stem & ~is_marked}.items():
                summary = mean_distance(encoded, chosen)
                numbers[f"{name}_windows"] = int(chosen.sum())
                numbers[f"{name}_distance"] = dataclasses.asdict(summary) if summary else None
        rows.append(context.row(protocol, stem=stem, mark_db=MARK_DB, **numbers))
    return rows


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """The Markdown table with a line for each stem."""
    columns = ["stem", "windows", "silhouette", "marked windows"]
    columns += ["marked tracks", "distance of marked tracks", "other tracks", "distance of other tracks"]
    lines = []
    for row in rows:
        line = [row["stem"], str(row["windows"]), f"{row['silhouette']:.3f}"]
        if row["stem"] == "all":
            lines.append([*line, *["–"] * 5])
            continue
        cells = []
        for name in ("marked", "unmarked"):
            summary = Summary(**row[f"{name}_distance"]) if row[f"{name}_distance"] else None
            cells += [str(summary.count if summary else 0), published.mean_and_interval(summary, 3, "")]
        lines.append([*line, str(row["marked_windows"]), *cells])
    explanation = (
        f"silhouette by cosine distance; marked: tracks that gain more than {MARK_DB:g} dB by iteration; cosine "
        "distance from the class mean of the training tracks, mean over tracks ± 95 %"
    )
    return published.markdown(f"{heading}; {explanation}", columns, lines)


def main() -> None:
    options = console.parse(Latents, "python -m benchmarks.papers.lee2019.latents", EXAMPLE)
    if options.windows < 0:
        raise ValueError(f"--windows must be 0 or more, not {options.windows}")
    check_sklearn()
    context = load_context(options, "latents", EXAMPLE)
    corpus = context.corpus(channels=options.channels)
    scores = scores_of_tracks(context, options, corpus, ("mean", "iterative"))
    encoded = encode_windows(context, corpus, {track_scores.track for track_scores in scores}, options.windows)
    gains = track_gains(scores)
    marked_tracks = {stem: large_gains(gains, stem) for stem in corpus.stems}
    pairs = zip(encoded.stems, encoded.tracks, strict=True)
    is_marked = np.array([track in marked_tracks[stem] for stem, track in pairs])
    protocol = f"{protocol_of(corpus)}; latents of windows of {context.model.system.query_samples} samples"
    rows, points = measure(context, encoded, is_marked, protocol), embed(encoded.latents, options.seed)
    name = f"{rows[0]['run']} on {context.corpus_name}, {corpus.split}: t-SNE of {len(points)} latents"
    figures.plot_classes(points, encoded.stems, context.out / "classes.png", name)
    marked_title = f"{name}, red: gain > {MARK_DB:g} dB"
    figures.plot_marked(points, encoded.stems, is_marked, context.out / "gains.png", marked_title)
    published.publish(context.out, rows, table(rows, title(rows, scores)))


if __name__ == "__main__":
    console.run(main)
