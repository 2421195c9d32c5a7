"""The result of a check of something on disk: what was checked, what is damaged, and how to repair it."""

from collections.abc import Callable
from typing import NamedTuple


class Check(NamedTuple):
    """One check.

    Attributes:
      subject: What was checked.
      fault: What is damaged and how to repair it; empty if it is sound.
      note: What else there is to say.
    """

    subject: str
    fault: str = ""
    note: str = ""

    @property
    def line(self) -> str:
        """The check as a line of a report."""
        if self.fault:
            return f"DAMAGED  {self.subject}: {self.fault}"
        return f"ok       {self.subject}" + (f" ({self.note})" if self.note else "")


def check(subject: str, examine: Callable[[], str | None]) -> Check:
    """Run a function that raises ValueError or OSError for what is damaged, and may return a note."""
    try:
        return Check(subject, note=examine() or "")
    except (ValueError, OSError) as error:
        return Check(subject, fault=" ".join(str(error).split()))
