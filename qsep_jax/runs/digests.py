"""SHA-256 digests of the files of a bundle, in the file `SHA256SUMS`, which `sha256sum --check` reads, too."""

import re
from collections.abc import Iterable
from pathlib import Path

from data_pipelines.files import sha256, write_text

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.]{1,100})")


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of files in a folder."""
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def read_sums(folder: Path) -> dict[str, str]:
    """The digests of the files of a bundle by name; empty for bundles that were written before there were digests.

    Raises:
      ValueError: if the file of digests is damaged.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        lines = file.read(10_000).decode(errors="replace").splitlines()
    parsed = [_LINE.fullmatch(line) for line in lines]
    if not all(parsed):
        raise ValueError(f"{path} is damaged: copy the bundle again")
    return {match[2]: match[1] for match in parsed if match}


def check_sum(path: Path) -> bool:
    """Check that a file of a bundle is the one that was written; False if the bundle has no digest of it.

    Raises:
      ValueError: if it is another one, or the file of digests is damaged.
      OSError: if it cannot be read.
    """
    expected = read_sums(path.parent).get(path.name)
    if expected is not None and sha256(path) != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {SUMS}: copy the bundle again")
    return expected is not None
