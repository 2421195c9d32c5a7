"""Names that users write: compared without regard to case and Unicode form, with a suggestion for a near miss."""

import difflib
import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC); macOS stores names of files in the decomposed one."""
    return unicodedata.normalize("NFC", name)


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
        similar = nearest(name, known)
        question = (
            f"did you mean '{similar}'? {introduction[:1].upper()}{introduction[1:]}" if similar else introduction
        )
        raise ValueError(f"unknown {kind} '{name}'; {question} {', '.join(known) or 'none'}")
    return matched


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar to `name`, or an empty text if none is."""
    by_form = {folded(other): other for other in known}
    similar = difflib.get_close_matches(folded(name), by_form, n=1)
    return by_form[similar[0]] if similar else ""
