"""The events of a MIDI file (Standard MIDI Files 1.0), with one clear error for each way in which it can be damaged."""

import dataclasses
from collections.abc import Iterator

import numpy as np

# Microseconds per quarter note before the first tempo.
DEFAULT_TEMPO = 500_000
# Bytes of data after each kind of status byte of a channel, by its upper four bits.
_DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
_META, _SYSEX, _ESCAPE = 0xFF, 0xF0, 0xF7
_TRACK_NAME, _END_OF_TRACK, _TEMPO = 0x03, 0x2F, 0x51


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of a channel.

    Attributes:
      tick: Time in ticks from the start of the file.
      kind: Upper four bits of its status: 8 note off, 9 note on, 11 controller, 12 program, ….
      channel: 0 to 15.
      first, second: Its data bytes, 0 to 127; the second is 0 if there is none.
    """

    tick: int
    kind: int
    channel: int
    first: int
    second: int


@dataclasses.dataclass(frozen=True)
class MidiTrack:
    """A track chunk: its name, its channel events in order, and the tick of its end."""

    name: str
    events: tuple[Event, ...]
    end: int


@dataclasses.dataclass(frozen=True)
class MidiFile:
    """A MIDI file.

    Attributes:
      division: Ticks per quarter note.
      tracks: Its track chunks.
      tempos: Tick and microseconds per quarter note of each change of tempo, in order; the first is at tick 0.
    """

    division: int
    tracks: tuple[MidiTrack, ...]
    tempos: tuple[tuple[int, int], ...]

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """The times in s, float64, of ticks."""
        begins, tempos = (np.array(column, np.float64) for column in zip(*self.tempos, strict=True))
        lengths = tempos * 1e-6 / self.division  # of a tick
        starts = np.concatenate([[0.0], np.cumsum(np.diff(begins) * lengths[:-1])])
        ticks = np.asarray(ticks, np.float64)
        part = np.searchsorted(begins, ticks, side="right") - 1
        return starts[part] + (ticks - begins[part]) * lengths[part]


def parse(content: bytes) -> MidiFile:
    """The events of a MIDI file.

    Raises:
      ValueError: if the content is no MIDI file, is truncated or damaged, or has no musical time.
    """
    if content[:4] != b"MThd":
        raise ValueError("is not a MIDI file")
    if len(content) < 14:
        raise ValueError("cannot be read as MIDI (it ends within its header); is it damaged?")
    length = int.from_bytes(content[4:8], "big")
    form, count, division = (int.from_bytes(content[place : place + 2], "big") for place in (8, 10, 12))
    if length < 6 or form > 2:
        raise ValueError(f"cannot be read as MIDI (a header of {length} bytes and form {form}); is it damaged?")
    if division & 0x8000:
        raise ValueError("counts time in frames of a film (SMPTE): save it with ticks per quarter note")
    if not division:
        raise ValueError("has 0 ticks per quarter note in its header: save it again with the program that made it")
    chunks = list(_chunks(content, 8 + length, count))
    if len(chunks) != count:
        raise ValueError(f"is damaged: its header promises {count} tracks, but the file holds {len(chunks)}")
    tempos: list[tuple[int, int]] = []
    tracks = tuple(_track(chunk, number, tempos) for number, chunk in enumerate(chunks, 1))
    # Of several tempos at one tick, the last counts.
    by_tick = dict([(0, DEFAULT_TEMPO), *sorted(tempos, key=lambda tempo: tempo[0])])
    return MidiFile(division, tracks, tuple(by_tick.items()))


def _chunks(content: bytes, position: int, count: int) -> Iterator[bytes]:
    """Yield the content of the track chunks; chunks of other kinds, and bytes after the last track, are skipped."""
    number = 0
    while position + 8 <= len(content):
        kind, length = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "big")
        position += 8
        if kind == b"MTrk":
            if position + length > len(content):
                raise ValueError("is truncated: its header promises more than the file holds")
            number += 1
            yield content[position : position + length]
        elif number >= count and not kind.isalnum():
            return
        position += length
    if number < count:
        raise ValueError(
            f"is truncated or damaged: its header promises {count} tracks, but the file holds {number}: get it again"
        )


class _Reader:
    """The bytes of a track chunk, read one after the other."""

    def __init__(self, content: bytes, number: int):
        self.content, self.number, self.position = content, number, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        part = self.content[self.position : self.position + count]
        if len(part) < count:
            raise ValueError(f"is damaged: track {self.number} ends within an event")
        self.position += count
        return part

    def number_of_variable_length(self) -> int:
        """A number in groups of seven bits, at most four of them."""
        value = 0
        for _ in range(4):
            (byte,) = self.take(1)
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise ValueError(f"is damaged: track {self.number} has a number of more than four bytes")


def _track(content: bytes, number: int, tempos: list[tuple[int, int]]) -> MidiTrack:
    """The events of a track chunk; its tempos are added to `tempos`."""
    reader, tick, running, name = _Reader(content, number), 0, 0, ""
    events: list[Event] = []
    while reader.position < len(content):
        tick += reader.number_of_variable_length()
        (status,) = reader.take(1)
        if status < 0x80:  # a data byte: the status of the event before still holds
            if not running:
                raise ValueError(f"is damaged: track {number} has data without an event")
            status, reader.position = running, reader.position - 1
        if status == _META:
            (kind,) = reader.take(1)
            data = reader.take(reader.number_of_variable_length())
            if kind == _END_OF_TRACK:
                break
            if kind == _TRACK_NAME and not name:
                name = data.decode(errors="replace").strip("\0 ")
            elif kind == _TEMPO:
                tempos.append((tick, _tempo(data, tick)))
        elif status in (_SYSEX, _ESCAPE):
            reader.take(reader.number_of_variable_length())
        elif status >= 0xF0:
            raise ValueError(f"is damaged: track {number} has the event {status:#x}, which no file may have")
        else:
            running = status
            data = reader.take(_DATA_BYTES[status >> 4])
            if max(data) > 0x7F:
                raise ValueError(f"is damaged: track {number} has an event with data beyond 127")
            events.append(Event(tick, status >> 4, status & 0xF, data[0], data[1] if len(data) > 1 else 0))
    return MidiTrack(name, tuple(events), tick)


def _tempo(data: bytes, tick: int) -> int:
    tempo = int.from_bytes(data, "big")
    if len(data) != 3 or not tempo:
        raise ValueError(f"has a tempo of 0 or without a value at tick {tick}: correct it with a MIDI editor")
    return tempo
