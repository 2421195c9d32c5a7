"""Tensors in files of `torch.save`, read without PyTorch: archives (zip), and the older stream, also within gzip.

Nothing of such a file is run. A TorchScript archive, which holds a program, is refused; the class of a model that some
files hold beside its weights stays a name. What a file says about sizes is compared with the bytes that it has before
memory is taken.
"""

import dataclasses
import gzip
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import first_line
from qsep_jax.models import pickled
from qsep_jax.models.pickled import Global

# Bytes of a file, and of what gzip makes of it.
LARGEST = 4 * 2**30
# A file of gzip may become this many times as large, plus a margin: weights hardly shrink.
MOST_GZIP_GROWTH, GZIP_MARGIN = 20, 64 * 2**20
# The tensors, as float32, may take this many times the bytes of the file: bytes become four times as large, and two
# names can share a tensor.
MOST_GROWTH = 8
# Bytes of the pickle in an archive.
LARGEST_PICKLE = 32 * 2**20
MOST_DIMENSIONS = 16
# The first number of a file of the older form.
_MAGIC = 0x1950A86A20F9469CFC6C
# Packages whose pickles contain the class of the model in addition to its weights.
_MODELS = ("demucs",)
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Functions of PyTorch that stand for a tensor; the first arguments are storage, offset, size and stride, or the tensor.
_TENSOR, _PARAMETER = Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_parameter")
_DICTIONARY = Global("collections", "OrderedDict")


class NotWeights(ValueError):
    """A file holds no weights that can be read; the message continues a sentence about it."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A storage that tensors lie in: its name, dtype, elements, and the first element of a view of it."""

    key: str
    dtype: str
    elements: int
    first: int = 0


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor in a storage; first element, size and strides are in elements."""

    storage: _Storage
    first: int
    size: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.size)


class _Unknown:
    """Stands for the class of a model and its objects."""


# Gives the bytes of each storage in turn, by its key.
_Storages = Callable[[set[str]], Iterator[tuple[str, bytes | memoryview]]]


def load(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary by name, float32: of the file itself, or of its `state_dict` or `state`.

    Raises:
      NotWeights: if the file is too large, damaged, or holds anything but weights.
      OSError: if it cannot be read.
    """
    size = path.stat().st_size
    _check_size(size, LARGEST)
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if start[:2] != b"\x1f\x8b":
                return _load(file, size)
            content = _decompressed(file, min(LARGEST, MOST_GZIP_GROWTH * size + GZIP_MARGIN))
            return _load(content, content.getbuffer().nbytes)
        except ValueError:
            raise
        except Exception as error:  # gzip and zipfile raise exceptions of many types for hostile files
            raise NotWeights(f"it is damaged: {first_line(error)}") from None


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise NotWeights(f"it takes {size / 1e9:.2g} GB, more than the {largest / 1e9:.2g} GB that weights may have")


def _decompressed(file: Any, largest: int) -> io.BytesIO:
    with gzip.open(file) as compressed:
        content = compressed.read(largest + 1)
    _check_size(len(content), largest)
    return io.BytesIO(content)


def _load(file: Any, size: int) -> dict[str, np.ndarray]:
    start = file.read(4)
    file.seek(0)
    if start == b"PK\3\4":
        with zipfile.ZipFile(file) as archive:
            return _arrays(*_of_archive(archive, size), size)
    return _arrays(*_of_stream(file, size), size)


def _of_archive(archive: zipfile.ZipFile, size: int) -> tuple[Any, _Storages]:
    """Return the content of an archive, whose storages are members of it."""
    members = {member.filename: member for member in archive.infolist()}
    folders = [name.removesuffix("data.pkl") for name in members if name.split("/")[-1] == "data.pkl"]
    if any(name.split("/")[-1] == "constants.pkl" or "code" in name.split("/")[:-1] for name in members):
        raise NotWeights("it is a TorchScript archive, which holds a program: save the model's state_dict() instead")
    if len(folders) != 1:
        raise NotWeights("it is a zip file without data.pkl, not one of torch.save")
    folder = folders[0]
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise NotWeights("it is a compressed archive, which torch.save does not write")
    if sum(member.file_size for member in members.values()) > size:
        raise NotWeights("its members are larger than the file")
    if members[f"{folder}data.pkl"].file_size > LARGEST_PICKLE:
        raise NotWeights("its data.pkl is too large for names and shapes")
    order = members.get(f"{folder}byteorder")
    if order is not None and order.file_size < 16 and archive.read(order) != b"little":
        raise NotWeights("it was written on a big-endian machine")

    def storages(keys: set[str]) -> Iterator[tuple[str, bytes]]:
        for key in sorted(keys):
            if f"{folder}data/{key}" not in members:
                raise NotWeights(f"it lacks the storage data/{key}")
            yield key, archive.read(members[f"{folder}data/{key}"])

    return pickled.load(io.BytesIO(archive.read(members[f"{folder}data.pkl"])), _WeightsReader()), storages


def _of_stream(file: Any, size: int) -> tuple[Any, _Storages]:
    """Return the content of a file of the older form: pickles, followed by the storages."""
    reader = _WeightsReader()
    if pickled.load(file, reader) != _MAGIC:
        raise NotWeights("it is a pickle, but not one of torch.save")
    pickled.load(file, reader)  # version
    machine = pickled.load(file, reader)
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise NotWeights("it was written on a big-endian machine")
    content, keys = pickled.load(file, reader), pickled.load(file, reader)
    if not isinstance(keys, list):
        raise NotWeights("it has no list of storages")

    def storages(wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        for key in keys:
            elements = int.from_bytes(file.read(8), "little")
            count = elements * _width(reader.storages[key]) if isinstance(key, str) and key in reader.storages else -1
            if not 0 <= count <= size - file.tell():
                raise NotWeights("it is cut short")
            if key in wanted:
                yield key, file.read(count)
            else:
                file.seek(count, io.SEEK_CUR)

    return content, storages


class _WeightsReader:
    """Makes tensors of a pickle of `torch.save`; every other class is refused, or unknown if it is that of a model.

    Attributes:
      storages: The dtype of each storage by its key.
    """

    def __init__(self):
        self.storages: dict[str, str] = {}

    def global_(self, name: Global) -> Any:
        if name in (_TENSOR, _PARAMETER, _DICTIONARY) or (name.module == "torch" and name.name in _TYPES):
            return name
        if name.module.split(".")[0] in _MODELS:
            return _Unknown()
        raise NotWeights(f"it contains {name.module[:80]}.{name.name[:80]}, which is not a weight")

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(function, _Unknown):
            return _Unknown()
        if function == _DICTIONARY:
            return {}
        if function == _PARAMETER and isinstance(arguments[0], _Tensor):
            return arguments[0]
        if function == _TENSOR:
            return _tensor(*arguments[:4])
        raise NotWeights("it calls something that is not a weight")

    def persistent(self, identifier: Any) -> Any:
        if isinstance(identifier, tuple) and identifier[0] == "module":  # class, file and source of a model
            return _Unknown()
        if not isinstance(identifier, tuple) or identifier[0] != "storage" or not isinstance(identifier[1], Global):
            raise NotWeights("it refers to something that is not a weight")
        kind, key, elements = identifier[1], identifier[2], identifier[4]
        view = identifier[5] if len(identifier) > 5 else None
        dtype = _TYPES[kind.name]
        if not isinstance(key, str):
            raise NotWeights("it has a storage without a name")
        if self.storages.setdefault(key, dtype) != dtype:
            raise NotWeights("it has a storage of two types")
        first, count = (view[1], view[2]) if view else (0, elements)
        if not _are_counts((first, count, elements)):
            raise NotWeights("it has a storage of no valid size")
        return _Storage(key, dtype, count, first)


def _tensor(storage: Any, first: Any, size: Any, strides: Any) -> _Tensor:
    valid = isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(strides, tuple)
    if (
        not valid
        or len(size) != len(strides)
        or len(size) > MOST_DIMENSIONS
        or not _are_counts((first, *size, *strides))
    ):
        raise NotWeights("it has a tensor of no valid shape")
    tensor = _Tensor(storage, first, size, strides)
    last = first + sum((length - 1) * stride for length, stride in zip(size, strides, strict=True))
    if tensor.elements and (last >= storage.elements or tensor.elements > storage.elements):
        raise NotWeights("it has a tensor that is larger than its storage")
    return tensor


def _are_counts(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _arrays(content: Any, storages: _Storages, size: int) -> dict[str, np.ndarray]:
    """Return the tensors of the state dictionary in `content`, from a file of `size` bytes."""
    if isinstance(content, tuple) and content:  # demucs, version 1: class, arguments, state
        content = content[-1]
    for name in ("state_dict", "state"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise NotWeights("it holds no dictionary of weights")
    by_storage: dict[str, list[str]] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise NotWeights(f"its entry '{str(name)[:80]}' is no tensor")
        by_storage.setdefault(tensor.storage.key, []).append(name)
    if 4 * sum(tensor.elements for tensor in content.values()) > MOST_GROWTH * size:
        raise NotWeights("its tensors are larger than the file")
    arrays = dict.fromkeys(content)
    for key, raw in storages({*by_storage}):
        for name in by_storage[key]:
            arrays[name] = _array(content[name], raw)
    lacking = next((name for name, array in arrays.items() if array is None), None)
    if lacking is not None:
        raise NotWeights(f"it lacks the storage of '{lacking[:80]}'")
    return arrays  # pyright: ignore[reportReturnType]


def _array(tensor: _Tensor, raw: bytes | memoryview) -> np.ndarray:
    width, first = _width(tensor.storage.dtype), tensor.storage.first
    if len(raw) < width * (first + tensor.storage.elements):
        raise NotWeights("it has a storage that is cut short")
    if not tensor.elements:
        return np.zeros(tensor.size, np.float32)
    is_short = tensor.storage.dtype == "bfloat16"
    flat = np.frombuffer(raw, np.dtype("<u2" if is_short else tensor.storage.dtype))[first + tensor.first :]
    strides = [width * stride for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat, tensor.size, strides, writeable=False)
    if is_short:  # the upper half of a float32
        return (view.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 beyond float32 is found by the check for finite values
        return view.astype(np.float32)


def _width(dtype: str) -> int:
    """The bytes of an element of a storage."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
