"""The manifest of a folder of outputs: which command wrote what from which input; several processes may write to it.

`manifest.json` is a list with an entry for each command. An entry holds, under the name of what was done
(`separated`, `transcribed`, …), an item for each input: its absolute paths as `inputs`, and its `outputs`, each with a
`path`. An output is recorded before it appears, so that every file of a killed command has a known input.
"""

import contextlib
import dataclasses
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.files import locked, read_json, write_json

REMEDY = "move it away or give another --out"
# What the items of an entry may be listed under.
DONE = ("separated", "transcribed", "synthesized", "adapted")


class Manifest:
    """The manifest of the folder `out`, with the entry of the running command.

    Attributes:
      path: Its file.
      entry: The entry of the running command, which is written with each item.
    """

    def __init__(self, out: Path, done: str, facts: Mapping[str, Any], overwrite: bool):
        """Start an entry; nothing is written before the first item.

        Args:
          done: What its items are listed under, one of `DONE`.
          facts: What the entry holds besides its items: version, model, the `options` as `options_of` returns them, ….
          overwrite: Whether outputs of other inputs, and files that the manifest does not list, may be overwritten.

        Raises:
          ValueError: if the folder has a manifest that cannot be read.
        """
        self.path, self._out, self._done, self._overwrite = out / "manifest.json", out, done, overwrite
        self.entry: dict[str, Any] = {"id": uuid.uuid4().hex, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        self.entry |= {**facts, done: []}
        self._read()

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of the running command."""
        return self.entry[self._done]

    def check(self, outputs: Mapping[Path, Sequence[Path]]) -> None:
        """Check before the work that no output would overwrite that of other inputs, or a file of the user.

        Args:
          outputs: The inputs of each output.

        Raises:
          ValueError: if one would.
        """
        self._check(self._read(), outputs)

    @contextlib.contextmanager
    def publishing(
        self, inputs: Sequence[Path], outputs: Sequence[Path], facts: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        """Record outputs; within the `with` block they appear, while no other process writes to the manifest.

        Args:
          inputs: The files that the outputs are made from, the one that the item is named after first.
          outputs: The paths of the outputs.
          facts: What the item holds instead of a list of the paths.

        Raises:
          ValueError: as `check`, since another process may have written in the meantime.
          OSError: if the manifest cannot be written.
        """
        item: dict[str, Any] = {
            "file": str(inputs[0]),
            "inputs": _absolute(inputs),
            "outputs": [{"path": str(path)} for path in outputs],
        }
        with locked(self.path):
            entries = self._read()
            self._check(entries, dict.fromkeys(outputs, inputs))
            self.items.append({**item, **(facts or {})})
            self._write(entries)
            try:
                yield
            except BaseException:
                self.items.pop()
                self._write(entries)
                raise

    def save(self) -> None:
        """Write the entry as it is now, if it has any item."""
        if self.items:
            with locked(self.path):
                self._write(self._read())

    def _read(self) -> list[dict[str, Any]]:
        """The entries of other commands."""
        entries = _entries(self.path)
        return [entry for entry in entries if entry.get("id") != self.entry["id"]]

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if self.items or entries:
            write_json(self.path, [*entries, *[self.entry] * bool(self.items)])
        else:
            self.path.unlink(missing_ok=True)

    def _check(self, entries: list[dict[str, Any]], outputs: Mapping[Path, Sequence[Path]]) -> None:
        if self._overwrite:
            return
        existing = [path for path in outputs if os.path.lexists(path)]
        owners = self._owners([*entries, self.entry]) if existing else {}
        for path in existing:
            owner = owners.get(os.path.abspath(path))
            if owner is None:
                raise ValueError(
                    f"{path} exists already, and {self.path} does not list it: give --overwrite, or another --out"
                )
            if owner != _absolute(outputs[path]):
                raise ValueError(f"{path} is an output of {owner[0]}: give --overwrite, or another --out")

    def _owners(self, entries: list[dict[str, Any]]) -> dict[str, list[str]]:
        """The inputs of each listed output, both as absolute paths; the last entry that lists an output counts."""
        owners = {}
        for entry in entries:
            try:
                out = Path(entry["options"]["out"])
                for item in (item for done in DONE for item in entry.get(done, [])):
                    inputs = item.get("inputs") or _absolute([Path(item["file"])])  # earlier versions lack `inputs`
                    for output in item["outputs"]:
                        path = Path(output["path"])
                        # The folder may have been moved, or the command may have run in another working directory.
                        place = self._out / path.relative_to(out) if path.is_relative_to(out) else path
                        owners[os.path.abspath(place)] = inputs
            except (KeyError, TypeError, AttributeError):
                raise ValueError(f"{self.path} is no manifest of this command: {REMEDY}") from None
        return owners


def options_of(options: Any) -> dict[str, Any]:
    """The options of a command, a dataclass, as JSON data; those of an entry have the field `out`."""
    return json.loads(json.dumps(dataclasses.asdict(options), default=str))


def check_manifest(out: Path) -> None:
    """Check, before a model is loaded, that the manifest of a folder can be read, if it has one.

    Raises:
      ValueError: if it cannot.
    """
    _entries(out / "manifest.json")


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path, REMEDY) if path.exists() else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is no manifest of this command: {REMEDY}")
    return entries


def _absolute(paths: Sequence[Path]) -> list[str]:
    return [os.path.abspath(path) for path in paths]
