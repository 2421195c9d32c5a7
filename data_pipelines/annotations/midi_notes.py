"""Notes from the events of a MIDI file: the sustain pedal, repeated keys, and notes without an end."""

import dataclasses
from collections.abc import Iterable

from data_pipelines.annotations.midi_events import Event, MidiFile, MidiTrack

DRUM_CHANNEL = 9
NOTE_OFF, NOTE_ON, CONTROLLER, PROGRAM = 0x8, 0x9, 0xB, 0xC
SUSTAIN, ALL_SOUND_OFF, RESET, ALL_NOTES_OFF = 64, 120, 121, 123


@dataclasses.dataclass
class Note:
    """A note in ticks.

    Attributes:
      pitch: MIDI pitch.
      onset: Tick at which its key is pressed.
      key_off: Tick at which its key is released.
      offset: Tick at which it ends: that of its key, or later with the pedal.
      hangs: Whether the file has no end for it.
    """

    pitch: int
    onset: int
    key_off: int = -1
    offset: int = -1
    hangs: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """The notes of a program on a channel of a track, in order of onset; never empty.

    Attributes:
      name: Name of the track.
      is_drum: Whether its channel is that of the drums.
      notes: Its notes.
    """

    name: str
    is_drum: bool
    notes: tuple[Note, ...]


def parts_of(file: MidiFile) -> list[Part]:
    """The parts of a file with notes: track by track, in each in the order of channels and programs."""
    parts = []
    for track in file.tracks:
        by_place: dict[tuple[int, int], list[Note]] = {}
        for channel in sorted({event.channel for event in track.events}):
            for program, note in _notes_of_channel(track, channel):
                by_place.setdefault((channel, program), []).append(note)
        for place in sorted(by_place):
            parts.append(Part(track.name, place[0] == DRUM_CHANNEL, tuple(_merged(by_place[place]))))
    return parts


def _notes_of_channel(track: MidiTrack, channel: int) -> list[tuple[int, Note]]:
    """The notes of a channel, each with its program, in order of onset."""
    state = _Channel()
    for event in track.events:
        if event.channel == channel:
            state.take(event)
    state.end(track.end)
    return state.notes


class _Channel:
    """What a synthesizer knows of a channel."""

    def __init__(self):
        self.notes: list[tuple[int, Note]] = []
        self._program = 0
        self._pedal = False
        self._pressed: dict[int, list[Note]] = {}  # by pitch, the earliest first
        self._sustained: list[Note] = []
        self._last_off: dict[int, int] = {}

    def take(self, event: Event) -> None:
        """Follow an event."""
        if event.kind == NOTE_ON and event.second:
            note = Note(event.first, event.tick)
            self.notes.append((self._program, note))
            self._pressed.setdefault(event.first, []).append(note)
        elif event.kind in (NOTE_ON, NOTE_OFF):  # a note on without velocity is a note off
            self._last_off[event.first] = event.tick
            if self._pressed.get(event.first):
                self._release(self._pressed[event.first].pop(0), event.tick)
        elif event.kind == PROGRAM:
            self._program = event.first
        elif event.kind == CONTROLLER:
            self._control(event)

    def _control(self, event: Event) -> None:
        if event.first in (ALL_SOUND_OFF, ALL_NOTES_OFF):
            for note in [note for notes in self._pressed.values() for note in notes]:
                self._release(note, event.tick)
            self._pressed.clear()
        if event.first == SUSTAIN:
            self._pedal = event.second >= 64
        elif event.first == RESET:
            self._pedal = False
        if event.first == ALL_SOUND_OFF or not self._pedal:
            self._end_sustained(event.tick)

    def _release(self, note: Note, tick: int) -> None:
        note.key_off = note.offset = tick
        if self._pedal:
            self._sustained.append(note)

    def _end_sustained(self, tick: int) -> None:
        for note in self._sustained:
            note.offset = tick
        self._sustained.clear()

    def end(self, tick: int) -> None:
        """End all notes at the end of the track."""
        self._end_sustained(tick)
        for note in (note for notes in self._pressed.values() for note in notes):
            # A key that is pressed twice and released once ends with the release.
            released = self._last_off.get(note.pitch, -1)
            note.hangs = released <= note.onset
            note.key_off = note.offset = tick if note.hangs else released


def _merged(notes: Iterable[Note]) -> list[Note]:
    """Notes of one part: of those with the same onset and pitch the longest, and each up to the next of its pitch."""
    merged: list[Note] = []
    last: dict[int, Note] = {}
    for note in sorted(notes, key=lambda note: note.onset):
        before = last.get(note.pitch)
        if before is not None and before.onset == note.onset:
            before.key_off, before.offset = max(before.key_off, note.key_off), max(before.offset, note.offset)
            before.hangs = before.hangs and note.hangs
            continue
        if before is not None:
            before.hangs = before.hangs and before.offset <= note.onset
            before.key_off, before.offset = min(before.key_off, note.onset), min(before.offset, note.onset)
        last[note.pitch] = note
        merged.append(note)
    return merged
