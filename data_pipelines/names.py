"""Names that users write: compared without regard to case and Unicode form, with a suggestion for a near miss."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

# Characters of a file that an error message quotes.
LONGEST_QUOTE = 80


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC); macOS stores names of files in the decomposed one."""
    return unicodedata.normalize("NFC", name)


def shortened(text: str) -> str:
    """The text for an error message: in one line and cut to 80 characters, since that of a damaged file may be long."""
    line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text[: LONGEST_QUOTE + 1])
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}…"


def quoted(text: str) -> str:
    """The text in quotes for an error message, cut to 80 characters."""
    return f"'{shortened(text)}'"


def folded(name: str) -> str:
    """What two names have in common that are one name for a user: neither case nor the Unicode form counts."""
    return composed(composed(name).casefold())


def match(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` stands for: itself, or the only one that is equal without regard to case; or None."""
    known = list(known)
    if name in known:
        return name
    equal = [other for other in known if folded(other) == folded(name)]
    return equal[0] if len(equal) == 1 else None


def choose(name: str, known: Iterable[str], kind: str = "label", introduction: str = "this model knows") -> str:
    """The known name that `name` stands for.

    Args:
      kind: what the name is, for the error message.
      introduction: how the list of the known names begins in the error message.

    Raises:
      ValueError: if there is none; the message has the most similar one, and lists all.
    """
    known = list(known)
    matched = match(name, known)
    if matched is None:
        raise ValueError(f"unknown {kind} {quoted(name)}; {known_names(name, known, introduction)}")
    return matched


def known_names(name: str, known: Sequence[str], introduction: str) -> str:
    """The end of an error message about an unknown name: the most similar known one, if one is, and a list of all."""
    by_form = {folded(other): other for other in known}
    similar = difflib.get_close_matches(folded(name), by_form, n=1)
    if similar:
        introduction = f"did you mean '{by_form[similar[0]]}'? {introduction[:1].upper()}{introduction[1:]}"
    return f"{introduction} {', '.join(known) or 'none'}"
