"""Conversion of a SoundFont such that symusic plays it in tune.

symusic 0.5 reads the root key and the pitch correction of a sample only from the header of the sample. A SoundFont may
override both in each zone of an instrument, and General MIDI SoundFonts do: without this conversion, the A5 of the
violin in TimGM6mb sounds at 7 kHz. The conversion gives each such zone a copy of the sample's header with the values of
the zone. The layout is that of the SoundFont 2.04 specification, chapter 7.
"""

import itertools
import struct
from pathlib import Path

# Generators of a zone: root key, tuning in semitones and in cents, and the sample, which ends the list.
ROOT_KEY, COARSE_TUNE, FINE_TUNE, SAMPLE = 58, 51, 52, 53
GENERATOR, HEADER = struct.Struct("<Hh"), struct.Struct("<20s5IBbHH")
ROOT, CORRECTION = 6, 7  # indices of these fields in a header


def with_tuned_samples(path: Path) -> bytes:
    """The SoundFont at `path` with the root keys and tunings of its zones moved to the headers of samples.

    Raises:
      ValueError: if it is not a SoundFont, or a damaged one.
    """
    content = path.read_bytes()
    start = content.rfind(b"pdta") - 8  # the list of presets, which is the last of the file
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk" or start < 0:
        raise ValueError(f"{path}: is not a SoundFont (.sf2 or .sf3)")
    try:
        return _with_tuned_headers(content, start)
    except (struct.error, KeyError, IndexError):
        raise ValueError(f"{path}: is a damaged SoundFont: get it again") from None


def _with_tuned_headers(content: bytes, start: int) -> bytes:
    """The SoundFont whose list of presets begins at `start`."""
    chunks = _chunks(content, start + 12, start + 8 + int.from_bytes(content[start + 4 : start + 8], "little"))
    generators = list(GENERATOR.iter_unpack(chunks[b"igen"]))
    *headers, end = HEADER.iter_unpack(chunks[b"shdr"])
    numbers = {}
    for position, zone in _zones(chunks, generators):
        header = _tuned_header(headers[zone[SAMPLE]], zone)
        if header not in numbers:
            numbers[header] = len(headers)
            headers.append(header)
        generators[position] = (SAMPLE, numbers[header])
    chunks[b"igen"] = b"".join(GENERATOR.pack(*generator) for generator in generators)
    chunks[b"shdr"] = b"".join(HEADER.pack(*header) for header in [*headers, end])
    body = b"pdta" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    content = content[8:start] + b"LIST" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _chunks(content: bytes, position: int, end: int) -> dict[bytes, bytes]:
    """The data of the chunks between two positions, by name."""
    chunks = {}
    while position < min(end, len(content)):
        name, length = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        chunks[name] = content[position + 8 : position + 8 + length]
        position += 8 + length
    return chunks


def _zones(chunks: dict[bytes, bytes], generators: list[tuple]):
    """Yield, for each zone that plays a sample, the position of its sample generator and its generators by kind.

    If the first zone of an instrument plays no sample, its generators are defaults for the other zones.
    """
    bags = [first for first, _ in struct.iter_unpack("<HH", chunks[b"ibag"])]
    instruments = [bag for _, bag in struct.iter_unpack("<20sH", chunks[b"inst"])]
    for first, after in itertools.pairwise(instruments):
        shared: dict[int, int] = {}
        for number, (begin, end) in enumerate(itertools.pairwise(bags[first : after + 1])):
            zone = dict(generators[begin:end])
            if SAMPLE in zone:
                yield begin + list(zone).index(SAMPLE), {**shared, **zone}
            elif number == 0:
                shared = zone


def _tuned_header(header: tuple, zone: dict[int, int]) -> tuple:
    """The header of a sample with the root key and the tuning of a zone."""
    root = zone.get(ROOT_KEY, -1)
    root = root if 0 <= root <= 127 else header[ROOT]
    cents = header[CORRECTION] + zone.get(FINE_TUNE, 0) + 100 * zone.get(COARSE_TUNE, 0)
    semitones = round(cents / 100)  # the range of the correction is about a semitone
    root = min(max(root - semitones, 0), 127)
    return (*header[:ROOT], root, cents - 100 * semitones, *header[CORRECTION + 1 :])
