"""Reading of `.safetensors` files that may be damaged or hostile."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from data_pipelines.files import first_line

# Bytes of the header, which has some 100 for each array.
LARGEST_HEADER = 16 * 2**20


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays of a file by name, and its metadata.

    The arrays take no more memory than the file: the format has no compression, and arrays do not overlap.

    Raises:
      ValueError: if the file is damaged or of another form; the message does not name it.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > min(LARGEST_HEADER, path.stat().st_size):
        raise ValueError("its header is cut short or too large")
    try:
        with safe_open(path, "numpy") as file:
            content: Any = file
            metadata = content.metadata() or {}
            return {name: content.get_tensor(name) for name in content.keys()}, metadata  # noqa: SIM118 (no mapping)
    except OSError:
        raise
    except Exception as error:  # the library raises exceptions of many types, and panics of Rust
        is_clear = isinstance(error, SafetensorError | ValueError)
        raise ValueError(first_line(error) if is_clear else "it is damaged") from None
