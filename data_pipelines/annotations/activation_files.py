"""Activations of stems in files that users write: CSV tables and label tracks of Audacity."""

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from data_pipelines.annotations.activations import Span
from data_pipelines.names import choose, match, quoted, shortened

HEADER = ("stem", "start", "end")
# Seconds by which a span may exceed the song, since labels are rounded and players report slightly different lengths.
TOLERANCE = 0.1

# A row of a file: number of the line, stem, and start and end in seconds, or None if the stem is inactive throughout.
_Row = tuple[int, str, tuple[float, float] | None]


def read(path: Path | str, stems: Sequence[str], seconds: float) -> tuple[Span, ...]:
    """The spans of a file for a song that lasts `seconds`, in the order of the file.

    A `.csv` file has the header `stem,start,end` and a line for each span. The line `vocals,,` states that the vocals
    are inactive throughout. Empty lines and lines that start with `#` are skipped.

    A `.txt` file is a label track as Audacity exports it: start, end and label, separated by tabs. The label is a stem.
    A label `no vocals`, at any time, states that the vocals are inactive throughout.

    The activity of a stem that a file does not name is unknown, and `from_spans` treats it as active throughout. Spans
    that exceed the song by at most 0.1 s are cut at its end.

    Raises:
      ValueError: if the file is missing, empty or of another format, or if a row is not a valid span: an unknown stem,
        a time that is not a number, a start that is not before its end, a time outside the song, or an overlap with
        another span of the same stem. The message has the number of the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    kinds = {".csv": (_table, "'{},,'"), ".txt": (_labels, "a label 'no {}'")}
    if path.suffix.lower() not in kinds:
        raise ValueError(
            f"{path}: is neither a table of activations (.csv) nor a label track of Audacity (.txt): "
            "give a file with one of these extensions"
        )
    rows_of, inactive_form = kinds[path.suffix.lower()]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: cannot be read as text: save it as {path.suffix} in UTF-8") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"{path}: is empty")
    rows: list[tuple[int, Span]] = []
    for number, stem, times in rows_of(path, numbered, stems):
        rows.append((number, _span(f"{path}: line {number}", stem, times, stems, seconds, inactive_form)))
    if not rows:
        raise ValueError(f"{path}: names no stem: mark where one of {', '.join(stems)} is active")
    for stem in stems:
        _check_disjoint(path, [row for row in rows if row[1].stem == stem])
    return tuple(span for _, span in rows)


def spans_of(
    source: Path | str | Mapping[str, Sequence[tuple[float, float]]], stems: Sequence[str], seconds: float
) -> tuple[tuple[Span, ...], str]:
    """The spans of a file, or of a mapping of stems to (start s, end s), and what error messages call their source.

    Raises:
      ValueError: as `read`; if the mapping names another stem, or a span is not within the song.
    """
    if not isinstance(source, Mapping):
        return read(source, stems, seconds), str(source)
    named = [(choose(stem, stems, "stem of the activations", "the stems are"), pairs) for stem, pairs in source.items()]
    spans = [Span(stem, float(start), float(end)) for stem, pairs in named for start, end in pairs]
    for span in spans:
        if not 0.0 <= span.start < span.end <= seconds:
            raise ValueError(
                f"the activation of '{span.stem}' from {span.start:g} to {span.end:g} s must have "
                f"0 ≤ start < end ≤ {seconds:.3f} s"
            )
    return tuple(spans), "the activations"


def _table(path: Path, lines: list[tuple[int, str]], _: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of a CSV table."""
    lines = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    positions = None
    for number, line in lines:
        try:
            row = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True, strict=True))]
        except csv.Error as error:
            raise ValueError(f"{path}: line {number} {quoted(line)} cannot be read as a row ({error})") from None
        if positions is None:
            columns = [cell.lower() for cell in row]
            missing = [name for name in HEADER if name not in columns]
            if missing:
                raise ValueError(
                    f"{path}: line {number} must name the columns {','.join(HEADER)}, with commas between them; "
                    f"{quoted(line)} lacks {', '.join(missing)}"
                )
            positions = [columns.index(name) for name in HEADER]
            continue
        if len(row) <= max(positions):
            raise ValueError(
                f"{path}: line {number} {quoted(line)} lacks columns: it must be {shortened(','.join(columns))}, "
                "or have both commas without start and end for a stem that is inactive throughout"
            )
        stem, start, end = (row[position] for position in positions)
        where = f"{path}: line {number}"
        yield number, stem, (_number(where, "start", start), _number(where, "end", end)) if start or end else None


def _labels(path: Path, lines: list[tuple[int, str]], stems: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of a label track of Audacity."""
    for number, line in lines:
        if line.startswith("\\"):  # the frequency range of the label in the line before
            continue
        row = [cell.strip() for cell in line.split("\t")]
        if len(row) != 3:
            raise ValueError(
                f"{path}: line {number} {quoted(line.strip())} is not a line of a label track of Audacity, which has "
                "start, end and label, separated by tabs; a table with commas needs the extension .csv"
            )
        where = f"{path}: line {number}"
        times = _number(where, "start", row[0]), _number(where, "end", row[1])
        inactive = row[2].lower().startswith("no ") and match(row[2], stems) is None
        yield number, row[2][len("no ") :].strip() if inactive else row[2], None if inactive else times


def _number(where: str, name: str, text: str) -> float:
    """The number in a cell; `where` and `name` say in the error message which cell it is."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{where}: {name} {quoted(text)} is not a number of seconds: write it as 72.5, with a decimal point"
        )
    return number


def _span(
    where: str, stem: str, times: tuple[float, float] | None, stems: Sequence[str], seconds: float, inactive_form: str
) -> Span:
    """The span of a row.

    Args:
      where: file and line, for error messages.
      seconds: length of the song.
      inactive_form: how the file states that a stem is inactive throughout, with `{}` for the stem.

    Raises:
      ValueError: if the row is not a valid span.
    """
    try:
        stem = choose(stem, stems, "stem", "the stems are")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if times is None:
        return Span(stem, 0.0, 0.0)
    start, end = times
    row = f"{where}: {stem} from {_format(start)} to {_format(end)} s"
    if start >= end:
        raise ValueError(
            f"{row} must start before it ends; {inactive_form.format(stem)} says that it is inactive throughout"
        )
    if start < 0 or start >= seconds or end > seconds + TOLERANCE:
        raise ValueError(f"{row} is not within the song, which ends at {_format(seconds)} s: correct it")
    return Span(stem, start, min(end, seconds))


def _check_disjoint(path: Path, rows: list[tuple[int, Span]]) -> None:
    """Raise ValueError if spans of one stem overlap or if one of several states that it is inactive throughout."""
    ordered = sorted(rows, key=lambda row: (row[1].start, row[1].end))
    for (first, before), (second, after) in itertools.pairwise(ordered):
        if before.end > after.start:
            raise ValueError(
                f"{path}: line {first}, {_describe(before)}, and line {second}, {_describe(after)}, overlap: "
                "make them one, or move their ends apart"
            )
        if before.start == before.end:
            raise ValueError(
                f"{path}: line {first} says that {before.stem} is inactive throughout, and line {second} says "
                f"{_describe(after)}: remove one"
            )


def _describe(span: Span) -> str:
    if span.start == span.end:
        return f"{span.stem} inactive throughout"
    return f"{span.stem} from {_format(span.start)} to {_format(span.end)} s"


def _format(seconds: float) -> str:
    """A time with microseconds, which distinguish the samples at all usual sample rates."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def to_csv(spans: Iterable[Span]) -> str:
    """The CSV table of spans, as `read` reads it; a span without length becomes `stem,,`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for span in spans:
        times = (_format(span.start), _format(span.end)) if span.start < span.end else ("", "")
        table.writerow((span.stem, *times))
    return text.getvalue()


def template(stems: Sequence[str], seconds: float) -> str:
    """A CSV table for a user to fill in; unchanged, it states that all stems are active throughout."""
    length, first, half = _format(seconds), stems[0], _format(round(seconds / 2, 1))
    comments = f"""\
# When each stem of the song is active, in seconds from its start. The song ends at {length} s.
# Lines that start with #, such as this one, are not read.
#
# Change the lines at the end. Each line states that a stem is active from a start to an end. A stem may have several
# lines, which must not overlap. At all other times the stem is inactive. Adaptation learns only from the times at
# which a stem is inactive, so at least one stem must be inactive at some time.
#   {first},0,{half}      is active from the start to {half} s and inactive from there on
#   {first},,             is inactive throughout: both commas without start and end
# The activity of a stem without a line is unknown; it counts as active throughout.
"""
    return comments + to_csv(Span(stem, 0.0, seconds) for stem in stems)
