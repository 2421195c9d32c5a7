"""Separate files by example: `python -m qsep_jax.separate --model RUN mix.wav --query violin.wav --out DIR`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import tyro

from data_pipelines.audio import fit_length, read_audio, resample, write_wav
from qsep_jax import console
from qsep_jax.inference.conditions import Bank, encode, iterate, mean, slerp
from qsep_jax.inference.separation import Model, separate
from qsep_jax.run import RunFolder
from qsep_jax.systems.base import Condition

EXAMPLE = "python -m qsep_jax.separate --model runs/quickstart mix.wav --query violin.wav --out separated"
KEPT_SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
# What a query makes of a mixture: given the mixture at the model's rate, the condition to separate with.
Ask = Callable[[np.ndarray], Condition]


@dataclasses.dataclass(frozen=True)
class Separate:
    """Separate audio files into what is asked for; each --query or --label gives one output OUT/FILE/NAME.wav.

    Rate, channel count, length and sample format of the input are kept. A mixture may have any length and any rate from
    8 to 192 kHz; the model hears it at its own rate, so nothing above half of that is in the output.

    Attributes:
      files: the mixtures.
      out: folder for the results.
      model: a run folder.
      query: audio that sounds like what is wanted; its windows are averaged.
      label: a class that the model was trained on, by the mean of its training tracks.
      retrieve: a class, by its training track that is nearest to the query or, without one, to a first estimate.
      interpolate: two labels or query files A and B and ALPHA from 0 (A) to 1 (B), for what lies between them.
      average_queries: whether all queries together ask for one source.
      iterations: rounds of separating and asking again with the estimate.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    out: Path
    model: Path
    query: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    label: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    retrieve: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    interpolate: tuple[str, str, float] | None = None
    average_queries: bool = False
    iterations: int = 0


class _Asked:
    """Turns the options into conditions; the bank of training tracks is read when it is first needed."""

    def __init__(self, run: RunFolder, model: Model):
        self._run, self._model, self._bank = run, model, None

    @property
    def bank(self) -> Bank:
        if self._bank is None:
            self._bank = self._run.bank(self._model)
        return self._bank

    def query(self, path: Path) -> Condition:
        audio, rate = read_audio(path)
        return encode(self._model, resample(audio, rate, self._model.system.sample_rate), str(path))

    def either(self, word: str) -> Condition:
        """A query file where there is one of that name, else a label."""
        return self.query(Path(word)) if Path(word).is_file() else self.bank.mean(word)

    def retrieved(self, label: str, query: Condition | None) -> Ask:
        class_mean = self.bank.mean(label)

        def ask(mixture: np.ndarray) -> Condition:
            like = iterate(self._model, mixture, class_mean, 1) if query is None else query
            track = self.bank.nearest(label, like)
            print(f"nearest '{label}' of the training tracks: {track}")
            return self.bank.tracks[label][track]

        return ask


def conditions(options: Separate, asked: _Asked) -> dict[str, Ask]:
    """What to ask for, by the name of its output.

    Raises:
      ValueError: if nothing is asked for, or a query or label is no good.
    """
    found: list[tuple[str, Ask]] = []
    queries = [(path.stem, asked.query(path)) for path in options.query]
    if options.retrieve:
        merged = mean([condition for _, condition in queries]) if queries else None
        found += [(f"{label}_nearest", asked.retrieved(label, merged)) for label in options.retrieve]
    elif options.average_queries and queries:
        merged = mean([condition for _, condition in queries])
        found.append(("+".join(name for name, _ in queries), lambda _: merged))
    else:
        found += [(name, lambda _, condition=condition: condition) for name, condition in queries]
    means = [(label, asked.bank.mean(label)) for label in options.label]
    found += [(label, lambda _, condition=condition: condition) for label, condition in means]
    if options.interpolate:
        first, second, alpha = options.interpolate
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"the ALPHA of --interpolate must be between 0 and 1, not {alpha}")
        between = slerp(asked.either(first), asked.either(second), alpha)
        found.append((f"{Path(first).stem}_{Path(second).stem}_{alpha:g}", lambda _: between))
    if not found:
        raise ValueError("nothing is asked for: give --query, --label, --retrieve or --interpolate")
    return _unique(found)


def _unique(found: list[tuple[str, Ask]]) -> dict[str, Ask]:
    named: dict[str, Ask] = {}
    for name, ask in found:
        number, free = 2, name
        while free in named:
            free, number = f"{name}_{number}", number + 1
        named[free] = ask
    return named


def separate_file(path: Path, model: Model, asks: dict[str, Ask], out: Path, iterations: int) -> list[Path]:
    """Write one WAV per ask to `out / path.stem`; the paths.

    Raises:
      ValueError: if the file cannot be used. OSError: if the output cannot be written.
    """
    audio, rate = read_audio(path)
    if not audio.any():
        raise ValueError(f"{path}: is silent: there is nothing to separate")
    subtype = soundfile.info(path).subtype
    mixture = resample(audio, rate, model.system.sample_rate)
    written = []
    for name, ask in asks.items():
        condition = iterate(model, mixture, ask(mixture), iterations)
        estimate = resample(separate(model, mixture, condition)[0], model.system.sample_rate, rate)
        target = out / path.stem / f"{name}.wav"
        format_kept = subtype if subtype in KEPT_SUBTYPES else "PCM_16"
        write_wav(target, fit_length(estimate, len(audio)), rate, format_kept)
        written.append(target)
    return written


def _check(options: Separate) -> None:
    if not options.files:
        raise ValueError(f"no file to separate. Example: {EXAMPLE}")
    if options.iterations < 0:
        raise ValueError(f"--iterations must be 0 or more, not {options.iterations}")
    names = [path.stem for path in options.files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(
            f"two files are named '{twice}', which would share {options.out / twice}: give them one by one"
        )


def main() -> None:
    options = console.parse(Separate, "python -m qsep_jax.separate", EXAMPLE)
    _check(options)
    console.cache_compilations()
    run = RunFolder(options.model)
    _, model = run.load()
    asks = conditions(options, _Asked(run, model))
    for path in options.files:
        for target in separate_file(path, model, asks, options.out, options.iterations):
            print(target)


if __name__ == "__main__":
    console.run(main)
