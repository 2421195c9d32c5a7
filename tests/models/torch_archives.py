"""Files as `torch.save` writes them, made without PyTorch, instruction by instruction."""

import io
import struct
import zipfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

_STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "b1": "BoolStorage"}


class Named(NamedTuple):
    """A class or function, by its name."""

    module: str
    name: str


class Call(NamedTuple):
    """A call of a class or function."""

    function: Named
    arguments: tuple[Any, ...]


class Stored(NamedTuple):
    """An object outside of the pickle, by its identifier."""

    identifier: Any


def pickled(value: Any) -> bytes:
    """A pickle of plain data, calls and references."""
    return b"\x80\x02" + _value(value) + b"."


def _value(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content
    if isinstance(value, str):
        content = value.encode()
        return b"X" + struct.pack("<I", len(content)) + content
    if isinstance(value, Named):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return _value(value.function) + _value(tuple(value.arguments)) + b"R"
    if isinstance(value, Stored):
        return _value(value.identifier) + b"Q"
    if isinstance(value, dict):
        return b"}(" + b"".join(_value(part) for item in value.items() for part in item) + b"u"
    opening, closing = (b"(", b"t") if isinstance(value, tuple) else (b"](", b"e")
    return opening + b"".join(map(_value, value)) + closing


def tensor(array: np.ndarray, key: str, *view: Any, size: Any = None, strides: Any = None) -> Call:
    """A tensor that fills the storage `key`, or claims another size."""
    kind = Named("torch", _STORAGES[array.dtype.str[1:]])
    storage = Stored(("storage", kind, key, "cpu", array.size, *view))
    steps = tuple(step // array.itemsize for step in array.strides)
    arguments = (storage, 0, size or array.shape, steps if strides is None else strides, False, {})
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), arguments)


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, Call]:
    """A state dictionary whose tensors lie in the storages "0", "1" and so on."""
    return {name: tensor(array, str(number)) for number, (name, array) in enumerate(arrays.items())}


def archive(content: Any, arrays: Iterable[np.ndarray], more: dict[str, bytes] | None = None) -> bytes:
    """A file of today's form: a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("weights/data.pkl", pickled(content))
        members.writestr("weights/byteorder", "little")
        for number, array in enumerate(arrays):
            members.writestr(f"weights/data/{number}", array.tobytes())
        members.writestr("weights/version", "3\n")
        for name, extra in (more or {}).items():
            members.writestr(f"weights/{name}", extra)
    return file.getvalue()


def stream(content: Any, arrays: Iterable[np.ndarray]) -> bytes:
    """A file of the older form: pickles, then the storages. Their tensors have views, which are None."""
    arrays = list(arrays)
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}, content)
    keys = [str(number) for number in range(len(arrays))]
    storages = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays)
    return b"".join(map(pickled, [*head, keys])) + storages
