"""Helpers for runs that are interrupted, and for comparing them with uninterrupted runs."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from qsep_jax.training.state import TrainState


class Interrupted(Exception):
    """Ends a run from inside."""


@dataclasses.dataclass
class Reporter:
    """Counts the steps and interrupts the run after `stop_after` of them."""

    stop_after: int

    def advance(self, count: int = 1, note: str = "") -> None:
        self.stop_after -= count
        if self.stop_after == 0:
            raise Interrupted


def logged_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` without the values that depend on time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "examples_per_second")} for line in lines]


def assert_equal(one: TrainState, other: TrainState) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))
