"""Decoding by libsndfile, also of parts of a file and of headers whose lengths are corrected on the way."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from data_pipelines.audio.ogg import Link

# libsndfile states this or more where a header does not say how many samples follow.
_UNKNOWN = 2**62


class SndfileDecoder:
    """A file that libsndfile decodes.

    Attributes:
      sample_rate: Hz.
      channels: Number of channels.
      stated: Samples per channel that the header states, None if it states none.
      container, subtype: As libsndfile names them.

    Raises:
      ValueError: if libsndfile cannot open the file, or its links have different sample rates or channels.
    """

    def __init__(self, path: Path, links: Sequence[Link] = (), patches: Sequence[tuple[int, bytes]] = ()):
        self._path = path
        self._parts = [(link.start, link.end) for link in links] or [(0, path.stat().st_size)]
        self._patches = tuple(patches)
        kinds, frames = set(), 0
        for part in self._parts:
            with self._opened(part) as file:
                self.sample_rate, self.channels = file.samplerate, file.channels
                self.container, self.subtype = file.format, file.subtype
                kinds.add((file.samplerate, file.channels))
                frames += file.frames
        if len(kinds) > 1:
            raise ValueError(f"{path}: is a chain of parts with different sample rates or channels: split it first")
        self.stated = frames if frames < _UNKNOWN else None

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """The samples as float32 `[n, C]` in −1…1, at most `samples` in each block.

        Raises:
          ValueError: if libsndfile cannot decode the file.
        """
        for part in self._parts:
            with self._opened(part) as file:
                while len(block := file.read(samples, dtype="float32", always_2d=True)):
                    yield block

    @contextlib.contextmanager
    def _opened(self, part: tuple[int, int]) -> Iterator[soundfile.SoundFile]:
        try:
            with contextlib.ExitStack() as stack:
                source: Any = self._path
                if self._patches or len(self._parts) > 1:
                    source = _Part(stack.enter_context(self._path.open("rb")), *part, self._patches)
                yield stack.enter_context(soundfile.SoundFile(source))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
            raise ValueError(f"{self._path}: cannot be read as audio ({reason}); is it damaged or misnamed?") from None


class _Part:
    """A range of a file with corrected bytes, as the file object that libsndfile reads from."""

    def __init__(self, file: BinaryIO, start: int, end: int, patches: Sequence[tuple[int, bytes]]):
        self._file, self._start, self._end, self._patches = file, start, end, patches
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end - self._start}
        self._position = max(0, bases[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, count: int = -1) -> bytes:
        begin = self._start + self._position
        left = max(0, self._end - begin)
        self._file.seek(begin)
        data = bytearray(self._file.read(left if count < 0 else min(count, left)))
        for position, correction in self._patches:
            for offset, byte in enumerate(correction, position - begin):
                if 0 <= offset < len(data):
                    data[offset] = byte
        self._position += len(data)
        return bytes(data)

    # soundfile asks for it, and never calls it on a file that is open for reading.
    def write(self, data: bytes) -> int:
        raise OSError("read-only")
