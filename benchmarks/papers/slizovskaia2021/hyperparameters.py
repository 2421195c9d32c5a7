"""Table V, from configs/slizovskaia2021.py: `python -m benchmarks.papers.slizovskaia2021.hyperparameters`."""

import dataclasses
from pathlib import Path

from benchmarks.papers import published
from configs.slizovskaia2021 import EXPERIMENTS, get_config, system_of
from qsep_jax.command_line import console
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels

EXAMPLE = "python -m benchmarks.papers.slizovskaia2021.hyperparameters --out runs/hyperparameters"
COLUMNS = ("F-scale", "V-scale", "model", "noise", "mask", "loss", "CL", "conditioning", "compared with")
MASKS = {"ratio": ("Ratio", "L2"), "binary": ("Binary", "BCE"), "magnitude": ("None", "L2")}


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Write Table V, with the two attempts of section 5.4 as experiments 22 and 23.

    Attributes:
      out: Folder for the table and its rows.
    """

    out: Path = Path("runs/hyperparameters")


def row(number: int) -> tuple[str, ...]:
    """The line of an experiment, with a text for each of `COLUMNS`.

    Raises:
      ValueError: if Table V has no columns for the system.
    """
    name = f"exp{number}"
    system, base = system_of(name), EXPERIMENTS[name][0]
    compared = base.removeprefix("exp") if isinstance(base, str) else "–"
    if isinstance(system, SoundOfPixels):
        train = get_config(name).train
        tuned = "-ft" if train.steps and train.requires_weights else ""
        model = f"SoP-{system.levels}{tuned}"
        return ("log", "log", model, "No", "Binary", "BCE", "No", "SoP-LinearCombination (visual)", compared)
    if not isinstance(system, Slizovskaia2021):
        raise ValueError(f"{name} is a {type(system).__name__}: Table V has no columns for it")
    mask, loss = MASKS[system.output]
    return (
        "log" if system.frequency_scale == "logarithmic" else "linear",
        "dB-norm" if system.level_scale == "db" else "log",
        "MHU-Net" if system.heads else "U-Net",
        "Yes" if system.input_noise else "No",
        mask,
        f"{loss} + BCE of the instruments" if system.classifier_weight else loss,
        "Yes" if system.curriculum else "No",
        conditioning(system),
        compared,
    )


def conditioning(system: Slizovskaia2021) -> str:
    """The paper's name of the conditioning of a system."""
    visual, layer = system.visual, system.conditioning
    if layer == "none":
        return "None"
    if visual is None:
        return "Label-multiply (binary)" if layer == "multiply" else f"FiLM-{layer} (binary)"
    name = "Final-multiply" if layer == "multiply" else f"FiLM-{layer}"
    if visual.frames == 1:
        return f"{name} (visual)"
    return f"{name}-{'maxpool' if visual.summary == 'max' else visual.summary} (visual-motion)"


def main() -> None:
    options = console.parse(Hyperparameters, "python -m benchmarks.papers.slizovskaia2021.hyperparameters", EXAMPLE)
    numbers = [int(name.removeprefix("exp")) for name in EXPERIMENTS]
    lines = [[str(number), *row(number)] for number in numbers]
    rows = [{"experiment": number, **dict(zip(COLUMNS, row(number), strict=True))} for number in numbers]
    options.out.mkdir(parents=True, exist_ok=True)
    markdown_table = published.markdown(
        "Table V, from configs/slizovskaia2021.py", ["exp.", *COLUMNS], lines, len(COLUMNS) + 1
    )
    published.publish(options.out, rows, markdown_table)


if __name__ == "__main__":
    console.run(main)
