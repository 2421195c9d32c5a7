"""Where the stems of a song are active, in files that users write: CSV, and label tracks of Audacity."""

import csv
import difflib
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_pipelines.annotations.activations import Span
from data_pipelines.files import atomic_write

HEADER = ("stem", "start", "end")
# Seconds by which labels may pass the end of the song: they are rounded, and players differ about where it ends.
BEYOND = 0.1

# A row of a file: line, stem, and start and end in seconds unless it says that the stem rests throughout.
_Row = tuple[int, str, tuple[float, float] | None]


def read(path: Path | str, stems: Sequence[str], seconds: float) -> tuple[Span, ...]:
    """The spans of a file for a song that lasts `seconds`, in the order of the file.

    A `.csv` has the header `stem,start,end` and a line for each span; `vocals,,` says that the vocals rest
    throughout. Empty lines and those that start with `#` are skipped. A `.txt` is a label track as Audacity exports
    it: start, end and label between tabs, the label being a stem; a label `no vocals`, wherever it lies, says that
    the vocals rest throughout. A stem that a file does not name is unknown: `from_spans` takes it as active throughout.

    Spans that pass the end of the song by at most 0.1 s are cut there.

    Raises:
      ValueError: if the file is missing, empty or of another kind, and with its line for a row that is no span: an
        unknown stem, no numbers, a start that is not before its end, a time outside the song, an overlap with
        another span of that stem.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    kinds = {".csv": (_table, "'{},,'"), ".txt": (_labels, "a label 'no {}'")}
    if path.suffix.lower() not in kinds:
        raise ValueError(
            f"{path}: is neither a table of activations (.csv) nor a label track of Audacity (.txt): "
            "name it by what it is"
        )
    rows_of, resting = kinds[path.suffix.lower()]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: cannot be read as text: save it as {path.suffix} in UTF-8") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"{path}: is empty")
    rows: list[tuple[int, Span]] = []
    for number, stem, times in rows_of(path, numbered, stems):
        rows.append((number, _checked(f"{path}: line {number}", stem, times, stems, seconds, resting)))
    if not rows:
        raise ValueError(f"{path}: names no stem: mark where one of {', '.join(stems)} is active")
    for stem in stems:
        _need_apart(path, [row for row in rows if row[1].stem == stem])
    return tuple(span for _, span in rows)


def _table(path: Path, lines: list[tuple[int, str]], _: Sequence[str]) -> Iterator[_Row]:
    lines = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    places = None
    for number, line in lines:
        try:
            row = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True, strict=True))]
        except csv.Error as error:
            raise ValueError(f"{path}: line {number} '{line}' cannot be read as a row ({error})") from None
        if places is None:
            columns = [cell.lower() for cell in row]
            missing = [name for name in HEADER if name not in columns]
            if missing:
                raise ValueError(
                    f"{path}: line {number} must name the columns {','.join(HEADER)}, with commas between them; "
                    f"'{line}' lacks {', '.join(missing)}"
                )
            places = [columns.index(name) for name in HEADER]
            continue
        if len(row) <= max(places):
            raise ValueError(
                f"{path}: line {number} '{line}' lacks columns: it must be {','.join(columns)}, "
                "or have neither start nor end, but both commas, for a stem that rests throughout"
            )
        stem, start, end = (row[place] for place in places)
        where = f"{path}: line {number}"
        yield number, stem, (_number(where, "start", start), _number(where, "end", end)) if start or end else None


def _labels(path: Path, lines: list[tuple[int, str]], stems: Sequence[str]) -> Iterator[_Row]:
    for number, line in lines:
        if line.startswith("\\"):  # the range of frequencies of the label above
            continue
        row = [cell.strip() for cell in line.split("\t")]
        if len(row) != 3:
            raise ValueError(
                f"{path}: line {number} '{line.strip()}' is of no label track of Audacity, which has start, end and "
                "label with tabs between them; name a table with commas .csv"
            )
        where = f"{path}: line {number}"
        times = _number(where, "start", row[0]), _number(where, "end", row[1])
        rests = row[2].startswith("no ") and row[2] not in stems
        yield number, row[2].removeprefix("no ").strip() if rests else row[2], None if rests else times


def _number(where: str, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {name} '{text}' is no number of seconds: write it as 72.5, with a point")
    return number


def _checked(
    where: str, stem: str, times: tuple[float, float] | None, stems: Sequence[str], seconds: float, resting: str
) -> Span:
    if stem not in stems:
        lower = {known.lower(): known for known in stems}
        near = difflib.get_close_matches(stem.lower(), lower, n=1)
        hint = f"did you mean '{lower[near[0]]}'? Known are" if near else "known are"
        raise ValueError(f"{where}: unknown stem '{stem}'; {hint} {', '.join(stems)}")
    if times is None:
        return Span(stem, 0.0, 0.0)
    start, end = times
    row = f"{where}: {stem} from {_plain(start)} to {_plain(end)} s"
    if start >= end:
        raise ValueError(f"{row} must start before it ends; {resting.format(stem)} says that it rests throughout")
    if start < 0 or start >= seconds or end > seconds + BEYOND:
        raise ValueError(f"{row} is not within the song, which ends at {_plain(seconds)} s: correct it")
    return Span(stem, start, min(end, seconds))


def _need_apart(path: Path, rows: list[tuple[int, Span]]) -> None:
    """Raise ValueError if spans of one stem overlap, or if one says that it rests and another that it does not."""
    ordered = sorted(rows, key=lambda row: (row[1].start, row[1].end))
    for (first, before), (second, after) in itertools.pairwise(ordered):
        if before.end > after.start:
            raise ValueError(
                f"{path}: line {first}, {_words(before)}, and line {second}, {_words(after)}, overlap: "
                "make them one, or move their ends apart"
            )
        if before.start == before.end:
            raise ValueError(
                f"{path}: line {first} says that {before.stem} rests throughout, and line {second} says "
                f"{_words(after)}: remove one"
            )


def _words(span: Span) -> str:
    if span.start == span.end:
        return f"{span.stem} resting throughout"
    return f"{span.stem} from {_plain(span.start)} to {_plain(span.end)} s"


def _plain(seconds: float) -> str:
    """To the microsecond, which tells the samples of any usual rate apart."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _rows(spans: Iterable[Span]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for span in spans:
        times = (_plain(span.start), _plain(span.end)) if span.start < span.end else ("", "")
        table.writerow((span.stem, *times))
    return text.getvalue()


def write(path: Path, spans: Iterable[Span]) -> None:
    """Write spans as the CSV that `read` reads; a span without length becomes `stem,,`.

    Raises:
      OSError: if the file cannot be written.
    """
    with atomic_write(path) as unfinished:
        unfinished.write_text(_rows(spans), encoding="utf-8")


def template(stems: Sequence[str], seconds: float) -> str:
    """A CSV for a user to fill in, which as it is says that all stems are active throughout."""
    length, first, half = _plain(seconds), stems[0], _plain(round(seconds / 2, 1))
    comments = f"""\
# Where each stem of the song can be heard, in seconds from its start. The song ends at {length}.
# Lines such as this one, which start with #, are not read.
#
# Change the lines at the end. Each says that a stem is active from a start to an end. A stem may have many, which must
# not overlap. Where none of them lies, the stem rests, and only rests teach something: mark at least one.
#   {first},0,{half}      is active from the start to {half} s, and rests from there on
#   {first},,             rests throughout: neither start nor end, but both commas
# A stem without any line is unknown and counts as active throughout.
"""
    return comments + _rows(Span(stem, 0.0, seconds) for stem in stems)
