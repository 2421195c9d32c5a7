"""§5.3 and Fig. 5: `python -m benchmarks.papers.lin2021.synthesis --workdir runs/msi --workdir runs/msi_dis`.

A source of a held-out mixture plays the notes of another held-out work for the same instrument. What comes out is set
against that work as the instrument itself plays it: by log-spectral distance, and by the notes that a pitch tracker of
others (pYIN) hears in it.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.papers import published
from benchmarks.papers.lin2021.pairs import Pair, as_lin2021, load_run, query, test_pairs, waveforms
from benchmarks.papers.lin2021.table import name_of
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
# Below the loudest bin of a recording, where a spectrum is taken to end.
FLOOR_DB = 60.0
# What the pitch tracker looks for, Hz, and in what frames, seconds.
LOWEST, HIGHEST, TRACKED = 40.0, 1600.0, 0.128
PROTOCOL = (
    "a source of a held-out mixture plays another held-out work's part for the same instrument; LSD: log-spectral "
    "distance in dB to that part as rendered, levels aligned, floor 60 dB; F1: notes by onset (50 ms) and pitch that "
    "pYIN hears"
)


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """Play new scores with the timbre of separated sources, by several models.

    Attributes:
      workdir: a run folder or a bundle; may be given several times.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: another corpus with notes than the run's own.
      pairs: mixtures at most, each with two sources (0: all).
      seconds: of the new score, and at most of the mixture.
      iterations: of Griffin-Lim.
      seed: of the pairs.
      target: the instrument of the picture.
      other: the instrument beside it, where there is such a mixture.
      out: where table, rows and picture go.
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
    """Mean over frames of the root mean square difference of levels in dB, of `[T]` signals.

    Each is first brought to the same energy; levels end `FLOOR_DB` below the loudest bin.
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


def heard_notes(signal: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """Notes `[n, 3]` that pYIN (Mauch and Dixon 2014) hears in `[T]`."""
    import librosa

    length = 2 ** round(np.log2(TRACKED * sample_rate))
    options = {"sr": sample_rate, "frame_length": length, "hop_length": hop_length}
    pitch, voiced, _ = librosa.pyin(signal, fmin=LOWEST, fmax=HIGHEST, **options)
    midi = np.rint(69 + 12 * np.log2(np.where(voiced, pitch, 440.0) / 440.0)).astype(int) - LOWEST_PITCH
    classes = np.where(voiced, np.clip(midi, 0, CLASSES - 2), SILENCE_CLASS)
    return notes_from_classes(classes, sample_rate / hop_length, 0.06)


def played(model: Model, corpus: Corpus, pair: Pair, place: int, options: Synthesis) -> tuple[np.ndarray, ...]:
    """Mixture, the new part as rendered, and as synthesized, each `[T]`, with the part's notes."""
    system = as_lin2021(model.system, "the model")
    source, mixture = pair[place], waveforms(corpus, pair, options.seconds).sum(0)
    length = min(round(options.seconds * corpus.sample_rate), corpus.length(source.query_track, source.stem))
    length -= length % system.hop_length
    notes = corpus.notes(source.query_track, source.stem)
    notes = notes[notes[:, 0] < length / corpus.sample_rate]
    rendered = corpus.read(Excerpt(source.query_track, source.stem, 0, length))
    classes = frame_classes(notes, length // system.hop_length, system.frame_rate)
    condition = encode(model, query(corpus, source))
    sound = synthesize(model, mixture, condition, classes, options.iterations)
    return mixture[:, 0], rendered[:, 0], sound[:, 0], notes


def study(model: Model, corpus: Corpus, pairs: list[Pair], options: Synthesis) -> dict[str, np.ndarray]:
    """Distances and note scores of all sources of all pairs, and those of the rendered parts themselves."""
    system = as_lin2021(model.system, "the model")
    found: dict[str, list[float]] = {"lsd": [], "f1": [], "f1_of_rendered": []}
    with Progress("synthesizing", 2 * len(pairs), unit="source") as progress:
        for pair in pairs:
            for place in (0, 1):
                _, rendered, sound, notes = played(model, corpus, pair, place, options)
                found["lsd"].append(log_spectral_distance(rendered, sound, system.window_length, system.hop_length))
                for key, signal in {"f1": sound, "f1_of_rendered": rendered}.items():
                    heard = heard_notes(signal, system.sample_rate, system.hop_length)
                    found[key].append(note_scores(notes, heard, offsets=False).f1)
                progress.advance()
    return {key: np.array(values) for key, values in found.items()}


def shown(model: Model, corpus: Corpus, pairs: list[Pair], options: Synthesis) -> dict[str, np.ndarray]:
    """The panels of Fig. 5 for one model: mixture, source, separated, the new part as rendered and as synthesized."""
    cases = [(pair, place) for pair in pairs for place in (0, 1) if pair[place].stem == options.target]
    if not cases:
        raise ValueError(f"no test mixture has a {options.target}: give another --target")
    pair, place = next(((p, n) for p, n in cases if p[1 - n].stem == options.other), cases[0])
    mixture, rendered, sound, _ = played(model, corpus, pair, place, options)
    separated = separate(model, mixture[:, None], encode(model, query(corpus, pair[place])))[0]
    source = waveforms(corpus, pair, options.seconds)[place]
    scale = np.sqrt(np.square(rendered).mean() / max(np.square(sound).mean(), 1e-12))
    titles = {
        f"mixture: {pair[place].stem} + {pair[1 - place].stem}": mixture,
        f"{options.target}": source[:, 0],
        "separated": separated[:, 0],
        "new score, rendered": rendered,
        "new score, synthesized": scale * sound,
    }
    return {title: signal[:, None] for title, signal in titles.items()}


def table(rows: list[dict[str, Any]]) -> str:
    columns = ["system", "sources", "LSD, dB", "note F1", "note F1 of the rendered part"]
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
    rows, pictures, rate = [], {}, 0
    for workdir in options.workdir:
        _, corpus = load_run(workdir, options.corpus, options.root)
        _, model = find_model(str(workdir)).load()
        need(model.system, "synthesize")
        system, rate = as_lin2021(model.system, str(workdir)), corpus.sample_rate
        found = study(model, corpus, test_pairs(corpus, options.pairs, options.seed), options)
        summaries = {key: dataclasses.asdict(summarize(values)) for key, values in found.items()}
        facts = {"corpus": corpus.metadata.name, "split": "test", "protocol": PROTOCOL, "seconds": options.seconds}
        rows.append({"run": workdir.resolve().name, "system": name_of(system), **facts, **summaries})
        pictures[name_of(system)] = shown(model, corpus, test_pairs(corpus, 0, options.seed), options)
    strips(pictures, rate, out / "spectrograms.png")
    published.publish(out, rows, table(rows))


if __name__ == "__main__":
    console.run(main)
