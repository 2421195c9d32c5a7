"""Records on disk and in memory: array_record files of serialised `tf.train.Example`, read without TensorFlow.

What is read here is what `store` writes, and nothing else: one uncompressed record per chunk. The samples that a crop
needs come straight from the mapped file, which takes a third of the time that array_record's reader takes for the whole
record (50 µs for 1.5 s at 22.05 kHz, most of it for a checksum and copies; TFDS's decoder takes several times that).
"""

import mmap
from bisect import bisect_right
from itertools import accumulate

import numpy as np

from data_pipelines.schema import AUDIO_DTYPE

# A map entry of the example begins with its key (field 1); what follows is the feature (field 2).
_AUDIO_KEY = b"\n\x05audio\x12"
# The audio begins within so many bytes, unless there are many notes in front of it.
_HEAD = 512

# Riegeli, the format below array_record: a file is blocks, each with a header of its own, wherever in a chunk it falls;
# a chunk is a header (size of the data at byte 8, type at 24, number of records after it) and its data.
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65536, 24, 40
_PAYLOAD = _BLOCK - _BLOCK_HEADER
_DAMAGED = "the corpus is damaged, prepare it again"


class Records:
    """The records of some files, in order, by random access.

    Positions within a file leave out the headers of blocks.

    Raises:
      ValueError: if a file is truncated or not in the form that `store` writes.
    """

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._files = [_map(path) for path in paths]
        self._chunks = [_chunks(path, file) for path, file in zip(paths, self._files, strict=True)]
        self._ends = list(accumulate(len(chunks) for chunks in self._chunks))
        self._audio: dict[int, tuple[np.ndarray, int, int]] = {}  # where it lies, of the records read so far

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> bytes:
        """A whole record."""
        file, position, length = self._place(number)
        return _payload(file, position, length).tobytes()

    def audio(self, number: int, channels: int, start: int, stop: int) -> np.ndarray:
        """Samples `start … stop` of a record, int16 `[stop − start, C]`.

        Raises:
          ValueError: if the record has no audio of whole frames, or less of it.
        """
        place = self._audio.get(number)
        if place is None:
            place = self._audio[number] = self._place_of_audio(number)
        file, position, size = place
        width = AUDIO_DTYPE().itemsize * channels
        if size % width or not 0 <= start <= stop <= size // width:
            raise ValueError(f"a record has no samples {start} to {stop} of {channels} channels: {_DAMAGED}")
        samples = _payload(file, position + width * start, width * (stop - start))
        return samples.view(AUDIO_DTYPE).reshape(-1, channels)

    def _place_of_audio(self, number: int) -> tuple[np.ndarray, int, int]:
        """File, position and bytes of the audio of a record."""
        file, position, length = self._place(number)
        head = _payload(file, position, min(length, _HEAD)).tobytes()
        if _AUDIO_KEY not in head[:-16]:  # with the lengths that follow it
            head = self[number]
        first, size = _locate_audio(head, length)
        return file, position + first, size

    def _place(self, number: int) -> tuple[np.ndarray, int, int]:
        """File, position and length of a record."""
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
    """Position and length of the records of a file, found by walking from chunk to chunk."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(path)  # checks the end of the file, which says how many records it has
        count = reader.num_records()
        reader.close()
    except RuntimeError:
        raise ValueError(f"{path} is cut short: {_DAMAGED}") from None
    found, position = [], _CHUNK_HEADER  # behind the signature, a chunk without data
    for _ in range(count):
        header = _payload(file, position, _CHUNK_HEADER).tobytes()
        size = int.from_bytes(header[8:16], "little")
        # A compression byte of 0 and the length of the length, then the length of the record, then the record.
        data = _payload(file, position + _CHUNK_HEADER, min(size, 12)).tobytes()
        if header[24:32] != b"r\1\0\0\0\0\0\0" or data[:1] != b"\0":
            raise ValueError(f"{path} is compressed or grouped, which is not how a corpus is stored: {_DAMAGED}")
        length, first = _varint(data, 2)
        if first + length != size:
            raise ValueError(f"{path}: a record is cut short: {_DAMAGED}")
        position += _CHUNK_HEADER
        found.append((position + first, length))
        position += size
    return found


def _payload(file: np.ndarray, position: int, count: int) -> np.ndarray:
    """A copy of `count` bytes without the headers of blocks, uint8."""
    out, done = np.empty(count, np.uint8), 0
    while done < count:
        block, offset = divmod(position + done, _PAYLOAD)
        start = block * _BLOCK + _BLOCK_HEADER + offset
        piece = file[start : start + min(_PAYLOAD - offset, count - done)]
        if not piece.size:
            raise ValueError(f"a file of records ends too early: {_DAMAGED}")
        out[done : done + piece.size] = piece
        done += piece.size
    return out


def audio(record: bytes, channels: int) -> np.ndarray:
    """Read-only int16 `[T, C]` view of the audio of a record.

    Raises:
      ValueError: if the record has no audio of whole frames.
    """
    position, length = _locate_audio(record, len(record))
    if length % (2 * channels):
        raise ValueError(f"the audio of a record is cut short: {_DAMAGED}")
    return np.frombuffer(record, AUDIO_DTYPE, length // 2, position).reshape(-1, channels)


def _locate_audio(head: bytes, total: int) -> tuple[int, int]:
    """Position and bytes of the audio in a record of `total` bytes that begins with `head`."""
    key = head.find(_AUDIO_KEY)
    if key < 0:
        raise ValueError(f"the record holds no audio: {_DAMAGED}")
    position = key + len(_AUDIO_KEY)
    for _ in range(2):  # lengths of the feature and of its list of bytes, each followed by the tag of field 1
        _, position = _varint(head, position)
        position += 1
    length, position = _varint(head, position)
    if position + length > total:
        raise ValueError(f"the audio of a record is cut short: {_DAMAGED}")
    return position, length


def fields(record: bytes) -> dict[str, bytes]:
    """Every feature of a record by name, as its packed bytes: text as it is, integers as varints, floats as float32."""
    found = {}
    for _, features in _messages(record):
        for _, entry in _messages(features):
            (_, name), (_, feature) = _messages(entry)
            (_, values), *_ = _messages(feature)
            found[name.decode()] = next((value for _, value in _messages(values)), b"")
    return found


def integer(packed: bytes) -> int:
    """The first integer of a packed field, 0 if it is empty."""
    return _varint(packed, 0)[0] if packed else 0


def _messages(buffer: bytes) -> list[tuple[int, bytes]]:
    """Length-delimited fields of a message, as (number, bytes)."""
    out, position = [], 0
    while position < len(buffer):
        tag, position = _varint(buffer, position)
        if tag & 7 != 2:
            raise ValueError("the record is not a tf.train.Example: the corpus is damaged, prepare it again")
        length, position = _varint(buffer, position)
        out.append((tag >> 3, buffer[position : position + length]))
        position += length
    return out


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """An unsigned base-128 number and the position behind it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
