"""The console script `qsep`: every command as a sub-command, `qsep train --config …`."""

import importlib
import sys

from data_pipelines.console import run
from qsep_jax.command_line import huge_pages

COMMANDS = {
    "prepare": ("data_pipelines.prepare", "build a corpus"),
    "train": ("qsep_jax.train", "train a system, or continue a run"),
    "evaluate": ("qsep_jax.evaluate", "score a run"),
    "separate": ("qsep_jax.separate", "separate files"),
    "transcribe": ("qsep_jax.transcribe", "write down the notes of a source"),
    "synthesize": ("qsep_jax.synthesize", "play a score with the timbre of a source"),
    "adapt": ("qsep_jax.adapt", "bend a model to songs"),
    "frame_features": ("qsep_jax.frame_features", "compute what a frozen network sees in the frames of a corpus"),
    "export": ("qsep_jax.export", "make a bundle of a run"),
}
USAGE = f"""usage: qsep COMMAND …

{chr(10).join(f"  {name:16}{what}" for name, (_, what) in COMMANDS.items())}

`qsep COMMAND --help` says more. Example: qsep train --config configs/quickstart.py --workdir runs/quickstart"""


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(USAGE)
        return
    huge_pages.ask()
    name = sys.argv.pop(1)
    if name not in COMMANDS:
        print(f"error: there is no command '{name}'\n{USAGE}", file=sys.stderr)
        raise SystemExit(2)
    run(importlib.import_module(COMMANDS[name][0]).main)
