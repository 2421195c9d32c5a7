"""What critics have learned: `python -m benchmarks.papers.stoller2018.critic --workdir runs/va`.

The picture of the slides: an estimate beside the gradient of its critic's score, which shows where it would have to be
louder or softer to sound like a real source. And whether the critic measures a distance: true sources, into which more
and more of the rest of their song leaks, should score lower and lower.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.files import write_text
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
# Levels in dB at which the rest of the song leaks into its source.
LEAKS = (-40.0, -30.0, -20.0, -15.0, -10.0, -5.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Critic:
    """Draw and measure what the critics of a run of configs/stoller2018.py say.

    Attributes:
      workdir: a run folder or a bundle that has critics.
      root: folder of the prepared corpora; the run's own if left out.
      corpus: whose songs; those that the run is judged on if left out.
      split: of it.
      excerpts: how many to measure on.
      seed: of their choice.
      out: where picture and numbers go; by default `critic` in the run folder.
    """

    workdir: str = ""
    root: str = ""
    corpus: str = ""
    split: str = "test"
    excerpts: int = 64
    seed: int = 2018
    out: Path | None = None


def load(options: Critic) -> tuple[Path, Model, dict[str, np.ndarray]]:
    """Where results go, the model, and excerpts of songs `[n, …]`.

    Raises:
      ValueError: if the model has no critics, or the corpus is not prepared.
    """
    source = find_model(options.workdir)
    experiment, model = source.load()
    system = _with_critics(experiment.system, options.workdir)
    stream, root = experiment.judged, options.root or experiment.data.root
    corpus = stream.open(root, options.corpus or stream.corpora[0], system.sample_rate, options.split, 1)
    rng, recipe = np.random.default_rng(options.seed), PairedExcerpt()
    drawn = [recipe(rng, corpus, system.chunk_samples) for _ in range(options.excerpts)]
    songs = {name: np.stack([excerpt[name] for excerpt in drawn]) for name in (MIXTURE, SOURCES)}
    return options.out or source.path / "critic", model, songs


def _with_critics(system: System, where: str) -> Stoller2018:
    """Narrow the system of a run to Stoller2018 with critics; `where` names the run in the error."""
    if not isinstance(system, Stoller2018) or not system.critics:
        raise ValueError(f"{where} has no critics: give a run of configs/stoller2018.py:v or :va")
    return system


def distances(model: Model, songs: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """`E[D(true)] − E[D(spoiled)]` of each critic: of true sources with leaks, and of the separator's estimates."""
    system = _with_critics(model.system, "the model")
    score = jax.jit(lambda variables, x: critic.scores(system.critic, variables["params"]["critics"], x))
    seen = jax.jit(system.real_view)
    places = [system.stems.index(stem) for stem in system.critics]
    true = [jnp.asarray(songs[SOURCES][:, place]) for place in places]
    rest = [jnp.asarray(songs[MIXTURE]) - audio for audio in true]

    def scored(signals: list[jax.Array]) -> np.ndarray:
        return np.asarray(score(model.variables, jnp.stack([seen(audio) for audio in signals])).mean(-1))

    real = scored(true)
    made = {
        f"{level:g} dB": scored([a + 10 ** (level / 20) * b for a, b in zip(true, rest, strict=True)])
        for level in LEAKS
    }
    estimates, _ = jax.jit(system.critic_view)(model.variables, jnp.asarray(songs[MIXTURE]))
    made["estimate"] = np.asarray(score(model.variables, estimates).mean(-1))
    return {
        stem: {name: float(real[k] - values[k]) for name, values in made.items()}
        for k, stem in enumerate(system.critics)
    }


def draw(model: Model, songs: dict[str, np.ndarray], path: Path) -> None:
    """Of the excerpt whose first source is loudest: what each critic sees, the truth, and the gradient of its score."""
    system = _with_critics(model.system, "the model")
    first = system.stems.index(system.critics[0])
    loudest = int(np.argmax(np.square(songs[SOURCES][:, first]).mean((1, 2))))
    seen, gradient = jax.jit(system.critic_view)(model.variables, jnp.asarray(songs[MIXTURE][loudest : loudest + 1]))
    figure, axes = spectrograms.subplots(len(system.critics), 3, (12, 3.4 * len(system.critics)))
    seconds = system.frames * system.hop_length / system.sample_rate
    extent = (0.0, seconds, 0.0, system.sample_rate / 2000)
    for k, stem in enumerate(system.critics):
        true = np.asarray(system.real_view(jnp.asarray(songs[SOURCES][loudest, system.stems.index(stem)][None])))[0]
        estimate, slope = np.asarray(seen[k, 0]), np.asarray(gradient[k, 0])
        top, steepest = max(true.max(), estimate.max()), max(float(np.abs(slope).max()), 1e-12)
        for axis, (title, image, options) in zip(
            axes[k],
            (
                (f"{stem}: true", true, {"vmin": 0, "vmax": top, "cmap": "magma"}),
                (f"{stem}: estimate", estimate, {"vmin": 0, "vmax": top, "cmap": "magma"}),
                ("gradient of the critic's score", slope, {"vmin": -steepest, "vmax": steepest, "cmap": "RdBu_r"}),
            ),
            strict=True,
        ):
            shown = axis.imshow(image.T, origin="lower", aspect="auto", extent=extent, **options)
            axis.set(title=title, xlabel="time in s", ylabel="frequency in kHz")
            figure.colorbar(shown, ax=axis)
    spectrograms.save_png(figure, path)


def table(found: dict[str, dict[str, float]]) -> str:
    heads = list(next(iter(found.values())))
    lines = [f"| critic | {' | '.join(heads)} |", f"| --- |{' --: |' * len(heads)}"]
    lines += [f"| {stem} | {' | '.join(f'{row[head]:.2f}' for head in heads)} |" for stem, row in found.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = console.parse(Critic, "python -m benchmarks.papers.stoller2018.critic", EXAMPLE)
    if not options.workdir:
        raise ValueError(f"--workdir is missing. Example: {EXAMPLE}")
    out, model, songs = load(options)
    found = distances(model, songs)
    draw(model, songs, out / "critic.png")
    write_text(out / "distances.json", json.dumps(found, indent=2))
    text = (
        f"E[D(true)] − E[D(·)] over {options.excerpts} excerpts of the {options.split} split: true sources into which "
        f"the rest of their song leaks, and the separator's estimates\n\n{table(found)}"
    )
    write_text(out / "distances.md", text)
    print(f"{text}\nwritten to {out}")


if __name__ == "__main__":
    console.run(main)
