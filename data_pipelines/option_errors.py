"""One line for each way in which tyro refuses command-line arguments; tyro itself draws a box of several sections."""

import difflib
import re
from collections.abc import Sequence

_STYLES = re.compile(r"\x1b\[[0-9;]*m")
# Sentences of tyro, and how this project says the same. The first pattern that matches counts.
_SENTENCES = (
    (r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)\.", r"\2 must be one of \3, not '\1'"),
    (r"Missing value for argument '(.*)'\. Expected 1 values\.", r"\1 needs a value"),
    (r"Missing value for argument '(.*)'\. Expected (\d+) values\.", r"\1 needs \2 values"),
    (r"Error parsing (-\S+): invalid literal for int\(\) with base 10: (.*)", r"\1 must be an integer, not \2"),
    (r"Error parsing (-\S+): could not convert string to float: (.*)", r"\1 must be a number, not \2"),
    (r"Error parsing (-\S+): (.*)", r"\1: \2"),
    (r"Error parsing \S+: (.*)", r"\1"),
    (r"Expected one of \{(.*)\}\.", r"missing: one of \1"),
)


def one_line(box: str, program: str) -> str:
    """What tyro's `box` of text says, in one line that names `program --help` where that helps.

    The text of a box of another shape, as a future version of tyro may draw, stays as it is, without the frame.
    """
    title, sections = _sections(box)
    message = " ".join(line.strip() for line in sections[0])
    if title == "Unrecognized options":
        misplaced = re.match(r"Unrecognized or misplaced options: (\S+) \(applied to (.+?)\)", message)
        unknown = misplaced[1] if misplaced else message.removeprefix("Unrecognized options: ").split(", ")[0]
        if misplaced and _kind(unknown) == "option":
            return f"{unknown} is no option of '{misplaced[2]}'; see {misplaced[2]} --help"
        return f"unknown {_kind(unknown)} '{unknown}'; {_remedy(unknown, sections[1:], program)}"
    if title == "Required options":
        missing = _names(sections[0])
        unknown = next((_names(section)[0] for section in sections if section[0].startswith("Unrecognized")), "")
        similar = difflib.get_close_matches(unknown, [name.split()[0] for name in missing], n=1)
        if similar:
            return f"unknown {_kind(unknown)} '{unknown}'; did you mean '{similar[0]}'?"
        return f"missing: {', '.join(missing)}; see {program} --help"
    values = re.match(r"Error parsing (-\S+): Could not .*?\[(.*?)\]", message)
    if values:
        _, *form = next((name for section in sections[1:] for name in _names(section)), values[1]).split()
        return f"{values[1]} takes {' '.join(form)}, not {values[2]}"
    for pattern, replacement in _SENTENCES:
        if re.fullmatch(pattern, message):
            return re.sub(pattern, replacement, message)
    return message


def _sections(box: str) -> tuple[str, list[list[str]]]:
    """The title of a box, and the lines of each of its sections, between which tyro draws horizontal rules."""
    lines = [line.rstrip() for line in _STYLES.sub("", box).splitlines() if line.strip()]
    title = lines[0].strip("╭╮+─- ") if lines else ""
    body = [line[2:-1].rstrip() for line in lines if line[:1] in ("│", "|")]
    if not body and len(lines) > 1 and not lines[1].strip(" -"):  # without a frame, where stdout is not UTF-8
        body = [line[2:] for line in lines[2:]]
    sections: list[list[str]] = [[]]
    for line in body or lines:
        if line.strip("─-"):
            sections[-1].append(line)
        else:
            sections.append([])
    return title, [section for section in sections if section] or [[]]


def _names(section: Sequence[str]) -> list[str]:
    """The options that a section lists: they are indented by four spaces, their help texts by eight."""
    return [line.strip() for line in section if re.match(r" {4}\S", line)]


def _kind(unknown: str) -> str:
    return "option" if unknown.startswith("-") else "argument"


def _remedy(unknown: str, sections: Sequence[Sequence[str]], program: str) -> str:
    """What the user can do about an unknown argument; the sections name similar options, or the sub-commands."""
    for heading, *lines in sections:
        if heading in ("Perhaps you meant:", f"Arguments similar to {unknown}:"):
            return f"did you mean '{_names(lines)[0].split()[0].rstrip(',')}'?"
        if heading.startswith("Available subcommands: ") and _kind(unknown) == "argument":
            names = heading.removeprefix("Available subcommands: ")
            similar = difflib.get_close_matches(unknown, names.split(", "), n=1)
            return f"did you mean '{similar[0]}'?" if similar else f"choose one of {names}"
    return f"see {program} --help"
