"""The plain data of a pickle, without the pickle module: no class of the file is imported, created or run.

A pickle is a program for a stack machine, whose instructions import and call anything there is. This reader executes
only the instructions that build numbers, text, tuples, lists and dictionaries. Names of classes and functions become
`Global`, and a `Reader` says what stands for a call of one. Memory grows with the size of the pickle only: memo numbers
are keys of a dictionary, keys are plain, and the number of instructions is limited.
"""

import dataclasses
import pickletools
from typing import IO, Any, Protocol

# Instructions of a pickle; a checkpoint of a network with a thousand weights has some 30,000.
MOST_OPERATIONS = 2_000_000
# Instructions whose argument is the value that they push.
_CONSTANTS = (
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of a class or function in a pickle."""

    module: str
    name: str


class Reader(Protocol):
    """What stands for the parts of a pickle that are no plain data; each method raises ValueError to refuse one."""

    def global_(self, name: Global) -> Any:
        """Return what stands for a class or a function."""
        ...

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Return what stands for a call of what `global_` returned."""
        ...

    def persistent(self, identifier: Any) -> Any:
        """Return what stands for an object that is stored outside of the pickle."""
        ...


def load(file: IO[bytes], reader: Reader) -> Any:
    """Return the data of the pickle that begins at the position of the file, which is then at its end.

    Raises:
      ValueError: if it is damaged, holds anything but plain data that the reader accepts, or is too long.
    """
    machine = _Machine(reader)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPERATIONS:
                raise ValueError(f"it is a pickle of more than {MOST_OPERATIONS:,} instructions")
            machine.run(operation.name, argument)
        return machine.pop()
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        raise ValueError("it is no intact pickle") from None


class _Machine:
    """The stack and the memo of a pickle while it is read."""

    def __init__(self, reader: Reader):
        self._reader = reader
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in _CONSTANTS:
            self._stack.append(argument)
        elif name in _VALUES:
            self._stack.append(_VALUES[name])
        elif name in _TUPLES:
            self._stack.append(tuple(self._several(_TUPLES[name])))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, member = argument.split(" ", 1) if name == "GLOBAL" else self._several(2)
            if not isinstance(module, str) or not isinstance(member, str):
                raise TypeError
            self._stack.append(self._reader.global_(Global(module, member)))
        else:
            instruction = getattr(self, f"_{name.lower()}", None)
            if instruction is None:
                raise ValueError(f"it is a pickle with the instruction {name}, which no weights need")
            instruction(argument)

    def pop(self) -> Any:
        """Remove and return the value at the top of the stack."""
        value = self._stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def _several(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _nothing(self, argument: Any) -> None:
        """Do nothing: the instruction states the version, the size or the end of the pickle."""

    _proto = _frame = _stop = _nothing

    def _mark(self, argument: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, argument: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, argument: Any) -> None:
        self._since_mark()

    def _dup(self, argument: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, argument: Any) -> None:
        self._memo[argument] = self._stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, argument: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    _binget = _long_binget = _get

    def _tuple(self, argument: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _empty_list(self, argument: Any) -> None:
        self._stack.append([])

    def _list(self, argument: Any) -> None:
        self._stack.append(self._since_mark())

    def _append(self, argument: Any) -> None:
        self._extend([self.pop()])

    def _appends(self, argument: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise TypeError
        self._stack[-1].extend(values)

    def _empty_dict(self, argument: Any) -> None:
        self._stack.append({})

    def _dict(self, argument: Any) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._update(values)

    def _setitem(self, argument: Any) -> None:
        self._update(self._several(2))

    def _setitems(self, argument: Any) -> None:
        self._update(self._since_mark())

    def _update(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            # The hash of nested tuples can take forever.
            if not isinstance(key, str | int | float | bytes | None):
                raise TypeError
            self._stack[-1][key] = value

    def _reduce(self, argument: Any) -> None:
        function, arguments = self._several(2)
        if not isinstance(arguments, tuple):
            raise TypeError
        self._stack.append(self._reader.call(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, argument: Any) -> None:
        self.pop()  # arguments by name
        self._reduce(argument)

    def _build(self, argument: Any) -> None:
        self.pop()  # the attributes of an object, such as the versions that a state dictionary has

    def _binpersid(self, argument: Any) -> None:
        self._stack.append(self._reader.persistent(self.pop()))
