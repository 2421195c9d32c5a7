"""Reader of array_record files that hold serialised `tf.train.Example` records, without TensorFlow.

It reads only files in the form that `store` writes: one uncompressed record per chunk. The samples of a crop are copied
straight from the memory-mapped file. This takes a third of the time in which array_record's own reader reads the
complete record (50 µs for 1.5 s at 22.05 kHz, mostly for a checksum and copies). The decoder of TFDS takes several
times as long.
"""

import contextlib
import mmap
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from data_pipelines.schema import AUDIO_DTYPE

# A map entry of the example begins with its key (field 1), which the feature (field 2) follows.
_AUDIO_KEY = b"\n\x05audio\x12"
# The audio begins within this many bytes of a record, unless many notes precede it.
_HEAD = 512

# array_record is based on the format Riegeli. A file consists of blocks of fixed size, each with a header, also in the
# middle of a chunk. A chunk consists of a header (size of the data at byte 8, type at byte 24, then the number of
# records) and its data.
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65536, 24, 40
_PAYLOAD = _BLOCK - _BLOCK_HEADER
_DAMAGED = "the corpus is damaged, prepare it again with --overwrite"


class Records:
    """Random access to the records of several files, numbered in the order of the files.

    Positions within a file do not count the headers of blocks.

    Raises:
      ValueError: if a file is truncated or not in the form that `store` writes.
    """

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._files = [_map(path) for path in paths]
        self._chunks = []
        for path, file in zip(paths, self._files, strict=True):
            try:
                self._chunks.append(_chunks(path, file))
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}: {_reason(error)}: {_DAMAGED}") from None
        self._ends = list(accumulate(len(chunks) for chunks in self._chunks))
        # File, position and size of the audio of each record that has been read.
        self._audio: dict[int, tuple[np.ndarray, int, int]] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> bytes:
        """The bytes of a complete record."""
        file, position, length = self._locate(number)
        return _payload(file, position, length).tobytes()

    def fields(self, number: int) -> dict[str, bytes]:
        """The packed bytes of each feature of a record, as `fields` returns them.

        Raises:
          ValueError: if the record is damaged; the message names its file.
        """
        with self.naming(number):
            return fields(self[number])

    def rows(self, number: int, name: str, columns: int) -> np.ndarray:
        """The numbers of a feature of a record, float32 `[n, columns]`, n = 0 if the record lacks it.

        Raises:
          ValueError: as `fields`.
        """
        packed = self.fields(number).get(name, b"")
        with self.naming(number):
            return np.frombuffer(packed, np.float32).reshape(-1, columns)

    def audio(self, number: int, channels: int, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` (exclusive) of a record, int16 `[stop − start, C]`.

        Raises:
          ValueError: if the record is damaged, has fewer samples or another number of channels; the message names its
            file.
        """
        location = self._audio.get(number)
        if location is None:
            with self.naming(number):
                location = self._audio[number] = self._locate_audio(number)
        file, position, size = location
        width = AUDIO_DTYPE().itemsize * channels
        if size % width or not 0 <= start <= stop <= size // width:
            with self.naming(number):
                raise ValueError(f"it has no samples {start} to {stop} of {channels} channels")
        samples = _payload(file, position + width * start, width * (stop - start))
        return samples.view(AUDIO_DTYPE).reshape(-1, channels)

    @contextlib.contextmanager
    def naming(self, number: int) -> Iterator[None]:
        """Turn an error of reading a record into a ValueError that names its file and the remedy."""
        try:
            yield
        except (ValueError, IndexError) as error:
            shard = bisect_right(self._ends, number)
            first = self._ends[shard - 1] if shard else 0
            raise ValueError(f"{self._paths[shard]}, record {number - first}: {_reason(error)}: {_DAMAGED}") from None

    def _locate_audio(self, number: int) -> tuple[np.ndarray, int, int]:
        """File, position and size in bytes of the audio of a record."""
        file, position, length = self._locate(number)
        head = _payload(file, position, min(length, _HEAD)).tobytes()
        if _AUDIO_KEY not in head[:-16]:  # the head must also hold the lengths that follow the key
            head = self[number]
        first, size = _find_audio(head, length)
        return file, position + first, size

    def _locate(self, number: int) -> tuple[np.ndarray, int, int]:
        """File, position and length in bytes of a record."""
        shard = bisect_right(self._ends, number)
        chunks = self._chunks[shard]
        position, length = chunks[number - self._ends[shard] + len(chunks)]
        return self._files[shard], position, length


def _map(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        try:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except ValueError:
            raise ValueError(f"{path} is empty: {_DAMAGED}") from None


def _chunks(path: str, file: np.ndarray) -> list[tuple[int, int]]:
    """Position and length of each record of a file, found by walking from chunk to chunk."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(path)  # checks the end of the file, which holds the number of records
        count = reader.num_records()
        reader.close()
    except RuntimeError:
        raise ValueError("it is cut short") from None
    chunks, position = [], _CHUNK_HEADER  # after the signature of the file, which is a chunk without data
    for _ in range(count):
        header = _payload(file, position, _CHUNK_HEADER).tobytes()
        size = int.from_bytes(header[8:16], "little")
        # The data are a compression byte of 0, the size of the next field, the length of the record, and the record.
        data = _payload(file, position + _CHUNK_HEADER, min(size, 12)).tobytes()
        if header[24:32] != b"r\1\0\0\0\0\0\0" or data[:1] != b"\0":
            raise ValueError("it is compressed or grouped, which is not how a corpus is stored")
        length, first = _varint(data, 2)
        if first + length != size:
            raise ValueError("a record is cut short")
        position += _CHUNK_HEADER
        chunks.append((position + first, length))
        position += size
    return chunks


def _reason(error: Exception) -> str:
    """What is wrong with a file or record; errors of Python's own operations on its bytes are summed up."""
    ours = type(error) is ValueError and "unpack" not in str(error) and "buffer" not in str(error)
    return str(error) if ours else "its fields are mixed up"


def _payload(file: np.ndarray, position: int, count: int) -> np.ndarray:
    """A copy of `count` bytes from `position` on, uint8, without the headers of blocks."""
    out, done = np.empty(count, np.uint8), 0
    while done < count:
        block, offset = divmod(position + done, _PAYLOAD)
        start = block * _BLOCK + _BLOCK_HEADER + offset
        piece = file[start : start + min(_PAYLOAD - offset, count - done)]
        if not piece.size:
            raise ValueError("the file ends too early")
        out[done : done + piece.size] = piece
        done += piece.size
    return out


def _find_audio(head: bytes, total: int) -> tuple[int, int]:
    """Position and size in bytes of the audio in a record of `total` bytes that begins with `head`."""
    key = head.find(_AUDIO_KEY)
    if key < 0:
        raise ValueError("it holds no audio")
    position = key + len(_AUDIO_KEY)
    for _ in range(2):  # skips the lengths of the feature and of its list of bytes, each followed by a tag of field 1
        _, position = _varint(head, position)
        position += 1
    length, position = _varint(head, position)
    if position + length > total:
        raise ValueError("its audio is cut short")
    return position, length


def fields(record: bytes) -> dict[str, bytes]:
    """The packed bytes of each feature of a record by name: text is UTF-8, integers are varints, floats are float32."""
    by_name = {}
    for _, features in _messages(record):
        for _, entry in _messages(features):
            (_, name), (_, feature) = _messages(entry)
            (_, values), *_ = _messages(feature)
            by_name[name.decode()] = next((value for _, value in _messages(values)), b"")
    return by_name


def integer(packed: bytes) -> int:
    """The first integer of a packed field, 0 if it is empty."""
    return _varint(packed, 0)[0] if packed else 0


def _messages(buffer: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a message, as (field number, bytes)."""
    messages, position = [], 0
    while position < len(buffer):
        tag, position = _varint(buffer, position)
        if tag & 7 != 2:
            raise ValueError("it is not a tf.train.Example")
        length, position = _varint(buffer, position)
        messages.append((tag >> 3, buffer[position : position + length]))
        position += length
    return messages


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """An unsigned base-128 number, and the position after it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
