"""Deferred transfer of a run's metrics from device to writer, with detection of divergence."""

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

# Maximal number of unfinished dispatches: enough to keep the device busy, few enough that batches do not accumulate.
IN_FLIGHT = 2


class Reporter(Protocol):
    """A progress display."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Advance by `count` steps and show a note."""
        ...


class Diverged(ValueError):
    """A phase skipped too many consecutive updates.

    Args:
      phase: name of the phase.
      step: first of the steps with a skipped update, counted from 0.
      count: number of consecutive skipped updates.
      hint: text that ends the message.
    """

    def __init__(self, phase: str, step: int, count: int, hint: str = ""):
        super().__init__(
            f"stopped at step {step}: the loss or gradient of phase '{phase}' was not finite in {count} consecutive "
            f"updates{hint}"
        )
        self.phase, self.step, self.count = phase, step, count


class Log:
    """Keeps metrics on the device until the step after a log step, then fetches them and writes their means."""

    def __init__(self, train: Train, writer: Writer | None, reporter: Reporter):
        self._train, self._writer, self._reporter = train, writer, reporter
        self._pending: deque[tuple[int, dict[str, Array]]] = deque()
        self._consecutive_skips: dict[str, int] = {}
        self._time, self._note = time.monotonic(), ""

    def add(self, step: int, metrics: dict[str, Array]) -> None:
        """Add the metrics `{name: [K]}` of K steps, the last of which ended at `step`."""
        if self._pending and self._pending[-1][0] % self._train.log_every == 0:
            self.flush()
        self._pending.append((step, metrics))
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])
        self._reporter.advance(self._train.steps_per_dispatch, self._note)

    def flush(self) -> None:
        """Write the pending metrics: means over the steps without a skipped update, and the number of skipped updates.

        Raises:
          Diverged: if a phase skipped `train.most_skipped` consecutive updates.
        """
        if not self._pending:
            return
        last = self._pending[-1][0]
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        self._pending.clear()
        values = {name: np.concatenate([group[name] for group in fetched]) for name in fetched[0]}
        now, count = time.monotonic(), len(next(iter(values.values())))
        line = {"examples_per_second": count * self._train.batch_size / (now - self._time)}
        self._time = now
        for name, series in values.items():
            phase, metric = name.split("/", 1)
            updated = values[f"{phase}/skipped"] == 0
            if metric == "skipped":
                line[name] = float(series.sum())
            elif updated.any():
                line[name] = float(series[updated].mean())
        losses = [f"{name.removesuffix('/loss')} {value:.4f}" for name, value in line.items() if name.endswith("/loss")]
        self._note = ", ".join([*losses, f"{line['examples_per_second']:.1f} examples/s"])
        if self._writer:
            self._writer.scalars(last, line)
        for name in values:
            if name.endswith("/skipped"):
                self._check_skips(name.removesuffix("/skipped"), values[name], last - count)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time inside the `with` block from the examples per second."""
        start = time.monotonic()
        yield
        self._time += time.monotonic() - start

    def _check_skips(self, phase: str, skipped: np.ndarray, first: int) -> None:
        for step, value in enumerate(skipped, first):
            self._consecutive_skips[phase] = self._consecutive_skips.get(phase, 0) + 1 if value else 0
            if self._consecutive_skips[phase] == self._train.most_skipped:
                raise Diverged(phase, step - self._train.most_skipped + 1, self._train.most_skipped)
