"""Opening of audio and video files with PyAV."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def opened(path: Path | str, demuxer: str | None = None) -> Iterator[Any]:
    """Yield the container of a file; an error of FFmpeg within the `with` block is one of the file.

    FFmpeg opens files alone, no addresses: it would take a name such as `http:x.mp4` for one.

    Args:
      demuxer: FFmpeg's name of the format; by default FFmpeg tells it by the content.

    Raises:
      ValueError: if FFmpeg cannot decode the file.
    """
    import av  # slow, and few commands need it
    from av.error import FFmpegError

    try:
        with av.open(str(Path(path).absolute()), format=demuxer, options={"protocol_whitelist": "file"}) as container:
            yield container
    except (FFmpegError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path} cannot be decoded ({reason}); is it damaged?") from None
