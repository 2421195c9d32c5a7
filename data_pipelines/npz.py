"""Reading of `.npz` files of arrays that may be damaged or hostile: sizes are checked before memory is taken."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from data_pipelines.files import first_line

# Kinds of dtypes that are read: booleans, whole numbers, floating-point numbers, and text.
_KINDS = "biufU"


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `np.savez` wrote, by name, read-only.

    They take no more memory than the file: an array that claims more than it has, and compressed arrays, are refused,
    and so are pickled objects.

    Raises:
      ValueError: if the file is damaged or of another form; the message does not name it.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                    raise ValueError("it is compressed, which np.savez does not do")
                if sum(member.file_size for member in members) > path.stat().st_size:
                    raise ValueError("its arrays are larger than the file")
                names = [member.filename.removesuffix(".npy") for member in members]
                return {name: _array(archive.read(member)) for name, member in zip(names, members, strict=True)}
        except ValueError:
            raise
        except Exception as error:  # zipfile raises exceptions of many types for hostile files
            raise ValueError(first_line(error)) from None


def _array(content: bytes) -> np.ndarray:
    """The array of a member in numpy's format."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, is_fortran, dtype = read_header(file)
    except (KeyError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise ValueError("the header of an array is damaged") from None
    if dtype.kind not in _KINDS:
        raise ValueError(f"it holds an array of dtype {dtype}")
    is_complete = all(type(length) is int and 0 <= length < 2**48 for length in shape)
    if not is_complete or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("the shape of an array does not fit its size")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")
