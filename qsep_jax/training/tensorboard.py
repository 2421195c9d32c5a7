"""Event files of TensorBoard, written in the calling thread.

`tensorboardX.SummaryWriter` writes from a thread behind a queue of ten events: if the disk is full the thread ends, and
the training waits for a place in the queue for ever. The queue also needs semaphores, which a killed run leaves behind.
"""

import os
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (  # made by protobuf when it is imported
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)

# Seconds after which events are flushed to the disk.
FLUSH_EVERY = 30.0


class Board:
    """The events of one start of a run, in a file of its own.

    All methods raise OSError if the file cannot be written.

    Args:
      folder: Folder of the event files.
      first: First step that is written; events of it and of later steps in older files are hidden. None hides nothing.
    """

    def __init__(self, folder: Path, first: int | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._flushed = time.monotonic()
        if first is not None:
            self._write(Event(file_version="brain.Event:2"), first)
            self._write(Event(session_log=SessionLog(status=SessionLog.START)), first)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Write a number."""
        self._write(Event(summary=summary.scalar(name, value)), step)

    def audio(self, name: str, samples: np.ndarray, step: int, sample_rate: int) -> None:
        """Write mono audio, float `[T]` in −1…1."""
        self._write(Event(summary=summary.audio(name, samples, sample_rate)), step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Write a picture, uint8 `[H, W, 3]`."""
        self._write(Event(summary=summary.image(name, pixels, dataformats="HWC")), step)

    def close(self) -> None:
        """Write all pending events."""
        self._events.close()

    def _write(self, event: Event, step: int) -> None:
        event.step, event.wall_time = step, time.time()
        self._events.write_event(event)
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self._events.flush()
            self._flushed = time.monotonic()
