"""A SoundFont as symusic needs it.

symusic 0.5 plays a sample by the root key and correction of the sample's header alone. A SoundFont may give both anew
in each zone of an instrument, and General MIDI ones do: without this, a violin's A5 of TimGM6mb sounds at 7 kHz. So
every such zone gets a header of its own that says what the zone says. Layout: SoundFont 2.04 specification, chapter 7.
"""

import itertools
import struct
from pathlib import Path

# Generators of a zone: root key, tuning in semitones and in cents, and the sample that ends the list.
ROOT_KEY, COARSE_TUNE, FINE_TUNE, SAMPLE = 58, 51, 52, 53
GENERATOR, HEADER = struct.Struct("<Hh"), struct.Struct("<20s5IBbHH")
ROOT, CORRECTION = 6, 7  # places in a header


def tuned(path: Path) -> bytes:
    """The SoundFont at `path` with the root keys and tunings of its zones moved into the headers of samples.

    Raises:
      ValueError: if it is not a SoundFont.
    """
    content = path.read_bytes()
    start = content.rfind(b"pdta") - 8  # the list of presets, the last of the file
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk" or start < 0:
        raise ValueError(f"{path}: is not a SoundFont (.sf2 or .sf3)")
    chunks = _chunks(content, start + 12, start + 8 + int.from_bytes(content[start + 4 : start + 8], "little"))
    generators = list(GENERATOR.iter_unpack(chunks[b"igen"]))
    *headers, end = HEADER.iter_unpack(chunks[b"shdr"])
    known = {}
    for place, zone in _zones(chunks, generators):
        header = _tuned_header(headers[zone[SAMPLE]], zone)
        if header not in known:
            known[header] = len(headers)
            headers.append(header)
        generators[place] = (SAMPLE, known[header])
    chunks[b"igen"] = b"".join(GENERATOR.pack(*generator) for generator in generators)
    chunks[b"shdr"] = b"".join(HEADER.pack(*header) for header in [*headers, end])
    body = b"pdta" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    whole = content[8:start] + b"LIST" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _chunks(content: bytes, position: int, end: int) -> dict[bytes, bytes]:
    found = {}
    while position < end:
        name, length = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        found[name] = content[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def _zones(chunks: dict[bytes, bytes], generators: list[tuple]):
    """Every zone that plays a sample: the place of its sample generator, and all its generators by kind.

    The first zone of an instrument may play none; then what it says holds for the others.
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
    root = zone.get(ROOT_KEY, -1)
    root = root if 0 <= root <= 127 else header[ROOT]
    cents = header[CORRECTION] + zone.get(FINE_TUNE, 0) + 100 * zone.get(COARSE_TUNE, 0)
    semitones = round(cents / 100)  # a correction has room for a semitone or so
    root = min(max(root - semitones, 0), 127)
    return (*header[:ROOT], root, cents - 100 * semitones, *header[CORRECTION + 1 :])
