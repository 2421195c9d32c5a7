"""Analyse the critics of a run: `python -m benchmarks.papers.stoller2018.critic --workdir runs/va`.

The figure is that of the slides: an estimate beside the gradient of its critic's score, which shows where the estimate
should be louder or softer to sound like a real source. The table tests whether a critic measures a distance: the more
of the rest of a song leaks into a reference source, the lower the source should score.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.files import write_json, write_text
from data_pipelines.recipes.unpaired import PairedExcerpt
from data_pipelines.schema import MIXTURE, SOURCES
from qsep_jax.command_line import console
from qsep_jax.figures import spectrograms
from qsep_jax.inference.model import Model
from qsep_jax.models import critic
from qsep_jax.runs.bundle import find_model
from qsep_jax.systems.base import System
from qsep_jax.systems.stoller2018 import Stoller2018

EXAMPLE = "python -m benchmarks.papers.stoller2018.critic --workdir runs/va --out runs/critic"
# Levels in dB at which the rest of a song leaks into a source.
LEAKS = (-40.0, -30.0, -20.0, -15.0, -10.0, -5.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Critic:
    """Plot the gradients of the critics of a run of configs/stoller2018.py, and measure the critics' scores.

    Attributes:
      workdir: Run folder or bundle of a system with critics.
      root: Folder of the prepared corpora (by default, the run's).
      corpus: Corpus of the songs (by default, the one that evaluates the run).
      split: Split of the corpus.
      excerpts: Number of excerpts to score.
      seed: Seed of the excerpts.
      out: Folder for the figure and the numbers (by default, `critic` in the run folder).
    """

    workdir: str = ""
    root: str = ""
    corpus: str = ""
    split: str = "test"
    excerpts: int = 64
    seed: int = 2018
    out: Path | None = None


def load(options: Critic) -> tuple[Path, Model, dict[str, np.ndarray]]:
    """The folder of the results, the model, and excerpts of songs: mixtures `[B, T, 1]` and sources `[B, S, T, 1]`.

    Raises:
      ValueError: if the model has no critics, or the corpus is not prepared.
    """
    saved = find_model(options.workdir)
    experiment, model = saved.load()
    system = _with_critics(experiment.system, options.workdir)
    stream, root = experiment.judged, options.root or experiment.data.root
    corpus = stream.open(root, options.corpus or stream.corpora[0], system.sample_rate, options.split, 1)
    rng, recipe = np.random.default_rng(options.seed), PairedExcerpt()
    excerpts = [recipe(rng, corpus, system.chunk_samples) for _ in range(options.excerpts)]
    songs = {name: np.stack([excerpt[name] for excerpt in excerpts]) for name in (MIXTURE, SOURCES)}
    return options.out or saved.path / "critic", model, songs


def _with_critics(system: System, where: str) -> Stoller2018:
    """The system of a run, checked to be a `Stoller2018` with critics; `where` names the run in the error message."""
    if not isinstance(system, Stoller2018) or not system.critics:
        raise ValueError(f"{where} has no critics: give a run of configs/stoller2018.py:v or :va")
    return system


def distances(model: Model, songs: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """`E[D(reference)] − E[D(·)]` of each critic, for references with leakage and for the separator's estimates."""
    system = _with_critics(model.system, "the model")
    score = jax.jit(lambda variables, x: critic.scores(system.critic, variables["params"]["critics"], x))
    critic_input = jax.jit(system.real_view)
    indices = [system.stems.index(stem) for stem in system.critics]
    references = [jnp.asarray(songs[SOURCES][:, index]) for index in indices]
    others = [jnp.asarray(songs[MIXTURE]) - audio for audio in references]

    def mean_scores(signals: list[jax.Array]) -> np.ndarray:
        return np.asarray(score(model.variables, jnp.stack([critic_input(audio) for audio in signals])).mean(-1))

    reference_scores = mean_scores(references)
    scores = {
        f"{level:g} dB": mean_scores([a + 10 ** (level / 20) * b for a, b in zip(references, others, strict=True)])
        for level in LEAKS
    }
    estimates, _ = jax.jit(system.critic_view)(model.variables, jnp.asarray(songs[MIXTURE]))
    scores["estimate"] = np.asarray(score(model.variables, estimates).mean(-1))
    return {
        stem: {name: float(reference_scores[index] - values[index]) for name, values in scores.items()}
        for index, stem in enumerate(system.critics)
    }


def plot(model: Model, songs: dict[str, np.ndarray], path: Path) -> None:
    """Plot reference, estimate and gradient of each critic's score, for the excerpt with the loudest first source."""
    system = _with_critics(model.system, "the model")
    first = system.stems.index(system.critics[0])
    loudest = int(np.argmax(np.square(songs[SOURCES][:, first]).mean((1, 2))))
    estimates, gradients = jax.jit(system.critic_view)(
        model.variables, jnp.asarray(songs[MIXTURE][loudest : loudest + 1])
    )
    figure, axes = spectrograms.subplots(len(system.critics), 3, (12, 3.4 * len(system.critics)))
    seconds = system.frames * system.hop_length / system.sample_rate
    extent = (0.0, seconds, 0.0, system.sample_rate / 2000)
    for index, stem in enumerate(system.critics):
        audio = songs[SOURCES][loudest, system.stems.index(stem)]
        reference = np.asarray(system.real_view(jnp.asarray(audio[None])))[0]
        estimate, gradient = np.asarray(estimates[index, 0]), np.asarray(gradients[index, 0])
        top, steepest = max(reference.max(), estimate.max()), max(float(np.abs(gradient).max()), 1e-12)
        for axis, (title, image, options) in zip(
            axes[index],
            (
                (f"{stem}: reference", reference, {"vmin": 0, "vmax": top, "cmap": "magma"}),
                (f"{stem}: estimate", estimate, {"vmin": 0, "vmax": top, "cmap": "magma"}),
                ("gradient of the critic's score", gradient, {"vmin": -steepest, "vmax": steepest, "cmap": "RdBu_r"}),
            ),
            strict=True,
        ):
            artist = axis.imshow(image.T, origin="lower", aspect="auto", extent=extent, **options)
            axis.set(title=title, xlabel="time in s", ylabel="frequency in kHz")
            figure.colorbar(artist, ax=axis)
    spectrograms.save_png(figure, path)


def table(results: dict[str, dict[str, float]]) -> str:
    """The Markdown table with a line for each critic."""
    names = list(next(iter(results.values())))
    rows = [["E[D(reference)] − E[D(·)]", *names]]
    rows += [[stem, *(f"{row[name]:.2f}" for name in names)] for stem, row in results.items()]
    head, *lines = (f"| {' | '.join(row)} |".replace("-", "−") for row in rows)
    return "\n".join([head, f"| --- |{' --: |' * len(names)}", *lines]) + "\n"


def main() -> None:
    options = console.parse(Critic, "python -m benchmarks.papers.stoller2018.critic", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is needed. Example: {EXAMPLE}")
    out, model, songs = load(options)
    results = distances(model, songs)
    plot(model, songs, out / "critic.png")
    write_json(out / "distances.json", results)
    text = (
        f"E[D(reference)] − E[D(·)] over {options.excerpts} excerpts of the {options.split} split, for references into "
        f"which the rest of the song leaks at the given level, and for the separator's estimates\n\n{table(results)}"
    )
    write_text(out / "distances.md", text)
    print(f"{text}\nwritten to {out}")


if __name__ == "__main__":
    console.run(main)
