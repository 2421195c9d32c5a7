"""The bytes of a record: a serialised `tf.train.Example`, read without TensorFlow and without copying the audio.

TFDS's own decoder gives the same values (tested) at a third of the speed for a 1.5-s segment.
"""

import numpy as np

from data_pipelines.schema import AUDIO_DTYPE

# A map entry of the example begins with its key (field 1); what follows is the feature (field 2).
_AUDIO_KEY = b"\n\x05audio\x12"


def audio(record: bytes, channels: int) -> np.ndarray:
    """Read-only int16 `[T, C]` view of the audio of a record.

    Raises:
      ValueError: if the record has no audio of whole frames.
    """
    key = record.find(_AUDIO_KEY)
    if key < 0:
        raise ValueError("the record holds no audio: the corpus is damaged, prepare it again")
    position = key + len(_AUDIO_KEY)
    for _ in range(2):  # lengths of the feature and of its list of bytes, each followed by the tag of field 1
        _, position = _varint(record, position)
        position += 1
    length, position = _varint(record, position)
    if length % (2 * channels) or position + length > len(record):
        raise ValueError("the audio of a record is cut short: the corpus is damaged, prepare it again")
    samples = np.frombuffer(record, AUDIO_DTYPE, length // 2, position)
    return samples.reshape(-1, channels)


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
