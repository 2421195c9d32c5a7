"""§5.3 and Fig. 5: `python -m benchmarks.papers.lin2021.synthesis --workdir runs/msi --workdir runs/msi_dis`.

The model synthesizes the notes of a held-out work with the timbre of a source of another held-out mixture, for the same
instrument. The output is compared with the rendered work by log-spectral distance, and by the notes that an independent
pitch tracker (pYIN) detects.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.papers import published
from benchmarks.papers.lin2021.pairs import Pair, as_lin2021, load_run, query, test_pairs, waveforms
from benchmarks.papers.lin2021.scoring import name_of
from data_pipelines.annotations.notes import frame_classes, notes_from_classes
from data_pipelines.prepared.corpus import Corpus, Excerpt
from data_pipelines.progress import Progress
from data_pipelines.schema import CLASSES, LOWEST_PITCH, SILENCE_CLASS
from qsep_jax.command_line import console
from qsep_jax.dsp.stft import stft
from qsep_jax.figures.spectrograms import strips
from qsep_jax.inference.conditions import encode
from qsep_jax.inference.model import Model
from qsep_jax.inference.separation import separate
from qsep_jax.inference.synthesis import synthesize
from qsep_jax.metrics.aggregate import summarize
from qsep_jax.metrics.transcription import note_scores
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.capabilities import need

EXAMPLE = "python -m benchmarks.papers.lin2021.synthesis --workdir runs/msi --workdir runs/msi_dis --out runs/synthesis"
# Levels are limited to this many dB below the loudest bin of the reference.
FLOOR_DB = 60.0
# The range of the pitch tracker in Hz, and the length of its frames in seconds.
LOWEST, HIGHEST, TRACKED = 40.0, 1600.0, 0.128
PROTOCOL = (
    "a source of a held-out mixture plays another held-out work's part for the same instrument; LSD: log-spectral "
    "distance in dB to that part as rendered, levels aligned, floor 60 dB; F1: notes that pYIN detects, by onset "
    "(50 ms) and pitch"
)


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """Synthesize new scores with the timbre of separated sources, by several models.

    Attributes:
      workdir: Run folder or bundle; the option may be repeated.
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Another corpus with notes (by default, the run's).
      pairs: Maximal number of mixtures, each with two sources (0: all).
      seconds: Length of the new score, and maximal length of the mixture, in seconds.
      iterations: Number of iterations of Griffin-Lim.
      seed: Seed of the pairs.
      target: Instrument in the figure.
      other: Second instrument in the figure, if there is such a mixture.
      out: Folder for the table, the rows and the figure (by default, `lin2021/synthesis` in the first run folder).
    """

    workdir: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    root: str = ""
    corpus: str = ""
    pairs: int = 8
    seconds: float = 10.0
    iterations: int = 200
    seed: int = 2021
    target: str = "viola"
    other: str = "clarinet"
    out: Path | None = None


def log_spectral_distance(reference: np.ndarray, estimate: np.ndarray, window_length: int, hop_length: int) -> float:
    """The log-spectral distance of two signals `[T]`: root mean square over bins, mean over frames, in dB.

    Both signals are first scaled to the same energy. Levels are limited to `FLOOR_DB` below the reference's loudest
    bin.
    """
    levels = []
    for signal in (reference, estimate):
        signal = signal[: len(signal) // hop_length * hop_length]
        magnitude = np.asarray(jnp.abs(stft(jnp.asarray(signal), window_length, hop_length)))
        magnitude = magnitude / max(np.sqrt(np.square(magnitude).mean()), 1e-12)
        levels.append(20 * np.log10(np.maximum(magnitude, 1e-12)))
    floor = levels[0].max() - FLOOR_DB
    a, b = (np.maximum(level, floor) for level in levels)
    return float(np.sqrt(np.square(a - b).mean(axis=-1)).mean())


def detected_notes(signal: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """The notes `[M, 3]` that pYIN (Mauch and Dixon 2014) detects in a signal `[T]`."""
    import librosa

    length = 2 ** round(np.log2(TRACKED * sample_rate))
    options = {"sr": sample_rate, "frame_length": length, "hop_length": hop_length}
    pitch, voiced, _ = librosa.pyin(signal, fmin=LOWEST, fmax=HIGHEST, **options)
    midi = np.rint(69 + 12 * np.log2(np.where(voiced, pitch, 440.0) / 440.0)).astype(int) - LOWEST_PITCH
    classes = np.where(voiced, np.clip(midi, 0, CLASSES - 2), SILENCE_CLASS)
    return notes_from_classes(classes, sample_rate / hop_length, 0.06)


def synthesize_part(
    model: Model, corpus: Corpus, pair: Pair, index: int, options: Synthesis
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Synthesize the query track of source `index` of a pair with the timbre of that source.

    Returns:
      The mixture, the part as rendered and as synthesized, each `[T]`, and the notes of the part `[M, 3]`.
    """
    system = as_lin2021(model.system, "the model")
    source, mixture = pair[index], waveforms(corpus, pair, options.seconds).sum(0)
    length = min(round(options.seconds * corpus.sample_rate), corpus.length(source.query_track, source.stem))
    length -= length % system.hop_length
    notes = corpus.notes(source.query_track, source.stem)
    notes = notes[notes[:, 0] < length / corpus.sample_rate]
    rendered = corpus.read(Excerpt(source.query_track, source.stem, 0, length))
    classes = frame_classes(notes, length // system.hop_length, system.frame_rate)
    condition = encode(model, query(corpus, source))
    synthesized = synthesize(model, mixture, condition, classes, options.iterations)
    return mixture[:, 0], rendered[:, 0], synthesized[:, 0], notes


def measure(model: Model, corpus: Corpus, pairs: list[Pair], options: Synthesis) -> dict[str, np.ndarray]:
    """The distances and note scores of all sources of all pairs, and the note scores of the rendered parts."""
    system = as_lin2021(model.system, "the model")
    window, hop = system.window_length, system.hop_length
    scores: dict[str, list[float]] = {"lsd": [], "f1": [], "f1_of_rendered": []}
    with Progress("synthesizing", 2 * len(pairs), unit="source") as progress:
        for pair in pairs:
            for index in (0, 1):
                _, rendered, synthesized, notes = synthesize_part(model, corpus, pair, index, options)
                scores["lsd"].append(log_spectral_distance(rendered, synthesized, window, hop))
                for key, signal in {"f1": synthesized, "f1_of_rendered": rendered}.items():
                    detected = detected_notes(signal, system.sample_rate, hop)
                    scores[key].append(note_scores(notes, detected, offsets=False).f1)
                progress.advance()
    return {key: np.array(values) for key, values in scores.items()}


def panels_of(model: Model, corpus: Corpus, pairs: list[Pair], options: Synthesis) -> dict[str, np.ndarray]:
    """The panels of Fig. 5 for one model: mixture, reference, estimate, the new part as rendered and synthesized."""
    cases = [(pair, index) for pair in pairs for index in (0, 1) if pair[index].stem == options.target]
    if not cases:
        raise ValueError(f"no test mixture has a {options.target}: give another --target")
    pair, index = next(((p, n) for p, n in cases if p[1 - n].stem == options.other), cases[0])
    mixture, rendered, synthesized, _ = synthesize_part(model, corpus, pair, index, options)
    estimate = separate(model, mixture[:, None], encode(model, query(corpus, pair[index])))[0]
    reference = waveforms(corpus, pair, options.seconds)[index]
    scale = np.sqrt(np.square(rendered).mean() / max(np.square(synthesized).mean(), 1e-12))
    panels = {
        f"mixture: {pair[index].stem} + {pair[1 - index].stem}": mixture,
        f"{options.target}": reference[:, 0],
        "separated": estimate[:, 0],
        "new score, rendered": rendered,
        "new score, synthesized": scale * synthesized,
    }
    return {title: signal[:, None] for title, signal in panels.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown table with a line for each run."""
    columns = ["system", "sources", "LSD in dB", "note F1", "note F1 of the rendered part"]
    lines = []
    for row in rows:
        cells = [f"{row[key]['mean']:.2f} ± {row[key]['ci95']:.2f}" for key in ("lsd", "f1", "f1_of_rendered")]
        lines.append([row["system"], str(row["lsd"]["count"]), *cells])
    first = rows[0]
    return published.markdown(f"{first['corpus']}, test split; {first['protocol']}; mean ± 95 %", columns, lines)


def main() -> None:
    options = console.parse(Synthesis, "python -m benchmarks.papers.lin2021.synthesis", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {EXAMPLE}")
    console.need_positive(options, "seconds", "iterations")
    console.cache_compilations()
    out = options.out or options.workdir[0] / "lin2021" / "synthesis"
    out.mkdir(parents=True, exist_ok=True)
    rows, figure_rows, rate = [], {}, 0
    for workdir in options.workdir:
        _, corpus = load_run(workdir, options.corpus, options.root)
        _, model = find_model(str(workdir)).load()
        need(model.system, "synthesize")
        system, rate = as_lin2021(model.system, str(workdir)), corpus.sample_rate
        scores = measure(model, corpus, test_pairs(corpus, options.pairs, options.seed), options)
        summaries = {key: dataclasses.asdict(summarize(values)) for key, values in scores.items()}
        facts = {"corpus": corpus.metadata.name, "split": "test", "protocol": PROTOCOL, "seconds": options.seconds}
        rows.append({"run": workdir.resolve().name, "system": name_of(system), **facts, **summaries})
        figure_rows[name_of(system)] = panels_of(model, corpus, test_pairs(corpus, 0, options.seed), options)
    strips(figure_rows, rate, out / "spectrograms.png")
    published.publish(out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
