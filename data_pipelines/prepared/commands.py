"""The commands that create missing corpora and frame features, for error messages."""

from pathlib import Path

from data_pipelines.schema import BUILT_IN, NAMED_CORPORA


def prepare_command(root: Path | str, name: str, sample_rate: int) -> str:
    """The command that prepares a corpus, with a placeholder for the source where the corpus needs one."""
    kind, options = (BUILT_IN | NAMED_CORPORA).get(name, (name, {"source": "DIR"}))
    options = {"name": name, **options} if kind != name else options
    words = [_option(option, value) for option, value in options.items()]
    return " ".join(["qsep prepare", kind, *words, f"--out {root} --sample-rate {sample_rate}"])


def frame_features_command(root: Path | str, corpus: str, sample_rate: int, features: str) -> str:
    """The command that computes the frame features `features` of a prepared corpus, with a placeholder for the run."""
    return (
        f"qsep frame-features --model RUN --root {root} --corpus {corpus} --name {features} --sample-rate {sample_rate}"
    )


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
