"""What a folder of audio holds: audio files, stems and tracks, without what operating systems and tools leave there."""

import warnings
from collections.abc import Iterable
from pathlib import Path

from data_pipelines.audio.reading import READABLE
from data_pipelines.names import composed, folded
from data_pipelines.schema import MIXTURE, check_name

# Folders of macOS archives, of Synology and Windows drives, and of Linux file systems, which hold no music of the user.
# Names that begin with a dot, such as `._vocals.wav` of macOS and `.ipynb_checkpoints`, are skipped as well.
NOT_OF_THE_USER = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))


def is_visible(path: Path) -> bool:
    """Whether a user sees the file or folder as theirs; only its own name counts, not those of the folders above."""
    return not path.name.startswith(".") and path.name not in NOT_OF_THE_USER


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """The visible files and folders in `folder` that match a pattern, sorted; empty if there is no such folder."""
    return [path for path in sorted(folder.glob(pattern)) if is_visible(path)] if folder.is_dir() else []


def track_folders(parent: Path) -> list[Path]:
    """The visible folders in `parent`, sorted by name; empty if `parent` does not exist."""
    return [path for path in entries(parent) if path.is_dir()]


def in_its_form(path: Path) -> Path:
    """The path of what exists under the name of `path` in either Unicode form; `path` itself if nothing does."""
    if path.exists():
        return path
    return next((other for other in entries(path.parent) if composed(other.name) == composed(path.name)), path)


def is_audio(path: Path) -> bool:
    """Whether a path is a file with an extension of audio."""
    return path.suffix.lower() in READABLE and path.is_file()


def audio_files(folder: Path) -> list[Path]:
    """The visible audio files directly in `folder`, sorted; empty if there is no such folder."""
    return [path for path in entries(folder) if is_audio(path)]


def audio_files_below(folder: Path) -> list[Path]:
    """The visible audio files in `folder` and in all visible folders below it, sorted."""
    files = [path for path in entries(folder) if is_audio(path)]
    for below in track_folders(folder):
        if not below.is_symlink():  # which may lead back here
            files += audio_files_below(below)
    return sorted(files)


def is_mixture(path: Path) -> bool:
    """Whether an audio file holds the mixture of a track and not an instrument: `mixture.wav` of MUSDB18-HQ."""
    return folded(path.stem) == MIXTURE


def stems_of(folder: Path) -> dict[str, Path]:
    """The audio files of the stems of a track, by the name of the stem in NFC; the file of the mixture is none.

    Raises:
      ValueError: if two files have the name of one stem, or the name of a stem is not plain.
    """
    stems: dict[str, Path] = {}
    by_form: dict[str, Path] = {}
    for path in audio_files(folder):
        if is_mixture(path):
            continue
        name = composed(path.stem)
        check_name(name, f"{folder}: the name of a stem")
        other = by_form.setdefault(folded(name), path)
        if other != path:
            raise ValueError(f"{folder} holds two files for one stem: {other.name}, {path.name}")
        stems[name] = path
    return stems


def warn_of_mixtures(folders: Iterable[Path]) -> None:
    """Warn that the files of mixtures in these folders are not taken as instruments, if there are any."""
    mixtures = [path for folder in folders for path in audio_files(folder) if is_mixture(path)]
    if mixtures:
        others = f" and {len(mixtures) - 1} other files of that name hold" if len(mixtures) > 1 else " holds"
        # Without a stack level the place is always the same, so a command that lists a folder twice warns once.
        warnings.warn(f"{mixtures[0]}{others} a mixture and no instrument: not read as a stem", stacklevel=1)
