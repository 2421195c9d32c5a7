"""The metrics of a run on their way from device to writer, late and in one go, with a watch on skipped updates."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jax import Array

from qsep_jax.training.settings import Train
from qsep_jax.training.writer import Writer

# Dispatches that may be under way on the device: enough to keep it busy, few enough that batches do not pile up.
IN_FLIGHT = 2


class Reporter(Protocol):
    """Whoever shows the progress."""

    def advance(self, count: int = 1, note: str = "") -> None: ...


class Diverged(ValueError):
    """A phase skipped too many updates in a row; `step` is the first of those steps, counted from 0."""

    def __init__(self, phase: str, step: int, count: int, more: str = ""):
        super().__init__(
            f"stopped at step {step}: the loss or gradient of phase '{phase}' was not finite in {count} updates in a "
            f"row{more}"
        )
        self.phase, self.step, self.count = phase, step, count


class Log:
    """Keeps the metrics of the steps on the device until a log step has passed, then fetches them and writes means."""

    def __init__(self, train: Train, writer: Writer | None, reporter: Reporter):
        self._train, self._writer, self._reporter = train, writer, reporter
        self._waiting: deque[tuple[int, dict[str, Array]]] = deque()
        self._in_a_row: dict[str, int] = {}
        self._time, self._note = time.monotonic(), ""

    def add(self, step: int, metrics: dict[str, Array]) -> None:
        """Take the metrics `{name: [K]}` of the K steps after which the run stands at `step`."""
        if self._waiting and self._waiting[-1][0] % self._train.log_every == 0:
            self.flush()
        self._waiting.append((step, metrics))
        if len(self._waiting) > IN_FLIGHT:
            jax.block_until_ready(self._waiting[-1 - IN_FLIGHT][1])
        self._reporter.advance(self._train.steps_per_dispatch, self._note)

    def flush(self) -> None:
        """Write what has gathered: means over the steps whose update was made, and the number of those skipped.

        Raises:
          Diverged: if a phase skipped `train.most_skipped` updates in a row.
        """
        if not self._waiting:
            return
        last = self._waiting[-1][0]
        fetched = jax.device_get([metrics for _, metrics in self._waiting])
        self._waiting.clear()
        values = {name: np.concatenate([group[name] for group in fetched]) for name in fetched[0]}
        now, count = time.monotonic(), len(next(iter(values.values())))
        line = {"examples_per_second": count * self._train.batch_size / (now - self._time)}
        self._time = now
        for name, series in values.items():
            phase, metric = name.split("/", 1)
            made = values[f"{phase}/skipped"] == 0
            if metric == "skipped":
                line[name] = float(series.sum())
            elif made.any():
                line[name] = float(series[made].mean())
        losses = [f"{name.removesuffix('/loss')} {value:.4f}" for name, value in line.items() if name.endswith("/loss")]
        self._note = ", ".join([*losses, f"{line['examples_per_second']:.1f} examples/s"])
        if self._writer:
            self._writer.scalars(last, line)
        for name in values:
            if name.endswith("/skipped"):
                self._watch(name.removesuffix("/skipped"), values[name], last - count)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leave what is not training out of the examples per second."""
        begin = time.monotonic()
        yield
        self._time += time.monotonic() - begin

    def _watch(self, phase: str, skipped: np.ndarray, first: int) -> None:
        for step, value in enumerate(skipped, first):
            self._in_a_row[phase] = self._in_a_row.get(phase, 0) + 1 if value else 0
            if self._in_a_row[phase] == self._train.most_skipped:
                raise Diverged(phase, step - self._train.most_skipped + 1, self._train.most_skipped)
