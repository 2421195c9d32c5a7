"""What a compiled program does, from its text: communication between devices and memory traffic.

The text is that of `jax.stages.Compiled.as_text()`: XLA's instructions in the order in which they are executed, after
all optimizations of the platform.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

# Operations that communicate between devices.
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Instructions that neither read nor write memory, or whose work is that of others.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "opt-barrier", "add-dependency", "iota"),
}
# Instructions whose work can hide communication.
_WORK = {"fusion", "convolution", "dot", "custom-call", "reduce", "fft", "while", "call", "reduce-window", "scatter"}
_WIDTHS = {"pred": 1, "s4": 0.5, "u4": 0.5, "c64": 8, "c128": 16, "token": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[^\s(]+) \(.*\{$")
_NAMED = re.compile(r"^\s+(?:ROOT )?%(?P<name>[^\s=]+) = (?P<rest>.*)$")
_OPERATION = re.compile(r" ?(?P<operation>[a-z][a-z0-9-]*)\(")
_CALLED = re.compile(r"(?:body|condition|to_apply|branch_computations|calls)=\{?%([^\s,}]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction of a program.

    Attributes:
      name: Its name.
      operation: What it does, such as `fusion`.
      size: Bytes of its result, without the padding of a layout.
      operands: Names of the instructions whose results it reads.
      text: The line that states it, from its result on.
    """

    name: str
    operation: str
    size: int
    operands: tuple[str, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class Collective:
    """A communication between devices.

    Attributes:
      operation: One of `COLLECTIVES`.
      size: Bytes of its result on a device.
      count: How often a run of the program executes it.
      is_hidden: Whether other work is executed between its start and its end.
    """

    operation: str
    size: int
    count: int
    is_hidden: bool


def collectives(text: str) -> list[Collective]:
    """The communications of a program, in the order of its text."""
    program = _parse(text)
    return [
        dataclasses.replace(collective, count=count)
        for name, count in _executed(program).items()
        for collective in _collectives_of(program.computations[name])
    ]


def traffic(text: str) -> int:
    """Bytes that the instructions of a program read and write, if each reads its operands and writes its result once.

    An instruction that reads a part of an operand counts as one that reads it all, and caches are not considered.
    """
    program = _parse(text)
    return sum(count * _traffic_of(program.computations[name]) for name, count in _executed(program).items())


@dataclasses.dataclass(frozen=True)
class _Program:
    entry: str
    computations: dict[str, list[Instruction]]


def _parse(text: str) -> _Program:
    entry, computations, current = "", {}, None
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            current = computations[header["name"]] = []
            entry = header["name"] if header["entry"] else entry
        elif current is not None and (named := _NAMED.match(line)):
            current.append(_instruction(named["name"], named["rest"]))
    if not entry:
        raise ValueError("the text is no compiled program: it has no ENTRY")
    return _Program(entry, computations)


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    operation = _OPERATION.match(rest, end)
    if operation is None:
        raise ValueError(f"the instruction {name} has no operation: {rest[:200]}")
    operands = rest[operation.end() : _closing(rest, operation.end() - 1)]
    return Instruction(
        name, operation["operation"], _size(rest[:end]), tuple(re.findall(r"%([^\s,)]+)", operands)), rest
    )


def _closing(text: str, start: int) -> int:
    """The position of the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    raise ValueError(f"a parenthesis is not closed: {text[start : start + 200]}")


def _size(kind: str) -> int:
    """The bytes of the arrays in a type."""
    total = 0.0
    for dtype, lengths in _ARRAY.findall(kind):
        bits = re.search(r"\d+", dtype)
        width = _WIDTHS.get(dtype, int(bits[0]) / 8 if bits else 0)
        total += width * math.prod(int(length) for length in lengths.split(",") if length)
    return int(total)


def _executed(program: _Program) -> dict[str, int]:
    """The computations that the entry executes, itself included, and how often; fusions belong to their instruction."""
    counts: dict[str, int] = {}

    def visit(name: str, count: int) -> None:
        counts[name] = counts.get(name, 0) + count
        for instruction in program.computations[name]:
            if instruction.operation in ("while", "call", "conditional"):
                trips = _TRIPS.search(instruction.text)
                for called in _CALLED.findall(instruction.text):
                    if called in program.computations:
                        visit(called, count * int(trips[1]) if trips else count)

    visit(program.entry, 1)
    return counts


def _collectives_of(instructions: list[Instruction]) -> Iterator[Collective]:
    running: dict[str, tuple[Instruction, bool]] = {}  # a start, and whether work has followed
    for instruction in instructions:
        operation = instruction.operation.removesuffix("-start").removesuffix("-done")
        if operation in COLLECTIVES and instruction.operation.endswith("-start"):
            running[instruction.name] = (instruction, False)
        elif operation in COLLECTIVES and instruction.operation.endswith("-done"):
            _, has_work = running.pop(instruction.operands[0])
            yield Collective(operation, instruction.size, 1, has_work)
        elif operation in COLLECTIVES:
            yield Collective(operation, instruction.size, 1, False)
        elif instruction.operation in _WORK:
            running = {name: (start, True) for name, (start, _) in running.items()}


def _traffic_of(instructions: list[Instruction]) -> int:
    sizes = {instruction.name: instruction.size for instruction in instructions}
    return sum(
        instruction.size + sum(sizes.get(operand, 0) for operand in instruction.operands)
        for instruction in instructions
        if instruction.operation not in _FREE and not instruction.operation.endswith("-done")
    )
