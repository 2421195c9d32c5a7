"""How a class that `config.json` names is found in another process: `module:Class`.

Classes are of three kinds. Those of this project are in `BUILT_IN`; the plain name, which older files have, stands for
them, too. Those of an importable module of the user are imported. Those of a config file are taken from the copy that a
run and a bundle keep (`qsep_jax.systems.source_files` says when that is executed).
"""

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from qsep_jax.systems import source_files
from qsep_jax.systems.base import System
from qsep_jax.systems.source_files import SourceFile

# The systems of this project and their modules, which are imported when they are asked for.
BUILT_IN = {
    "Lee2019": "qsep_jax.systems.lee2019",
    "Lin2021": "qsep_jax.systems.lin2021",
    "Slizovskaia2021": "qsep_jax.systems.slizovskaia2021",
    "SoundOfPixels": "qsep_jax.systems.sound_of_pixels",
    "FrameClassifier": "qsep_jax.systems.frame_classifier",
    "Stoller2018": "qsep_jax.systems.stoller2018",
    "Cantisani2021": "qsep_jax.systems.cantisani2021",
}
# Folder of a run or a bundle with the copies of files that define its classes.
SOURCES = "sources"


class ClassNotFound(ValueError):
    """A class that `config.json` names is missing, or its code is not trusted; the message says what to do."""


def name_of(kind: type) -> str:
    """Return the name `module:Class` by which `find_class` finds a class.

    Raises:
      ValueError: if no other process could find it: it is defined within a function, or in a script.
    """
    source = source_files.source_of(kind)
    module = source.module if source else kind.__module__
    if module == "__main__":
        raise ValueError(f"{kind.__name__} is defined in a script: move it to a module or a config file")
    if "<locals>" in kind.__qualname__:
        raise ValueError(f"{kind.__qualname__} is defined within a function: move it to the top level of its module")
    return f"{module}:{kind.__qualname__}"


def find_system(name: str, digests: Mapping[str, str], folder: Path | None) -> type[System]:
    """Return the system of this name, `module:Class` or a plain name of `BUILT_IN`.

    Args:
      digests: For each module that is a copied file, the SHA-256 of the file.
      folder: The run folder or bundle, which holds the copies.

    Raises:
      ClassNotFound: if there is none, it is no system, or its code is not trusted; says what to do.
    """
    if ":" not in name:
        if name not in BUILT_IN:
            raise ClassNotFound(
                f"unknown system '{name}'; there are {', '.join(BUILT_IN)}, and MODULE:CLASS of your own"
            )
        name = f"{BUILT_IN[name]}:{name}"
    kind = find_class(name, digests, folder)
    if not issubclass(kind, System):
        raise ClassNotFound(f"{name} is no System")
    return kind


def find_class(name: str, digests: Mapping[str, str], folder: Path | None) -> type:
    """Return the class `module:Class`, as `find_system` does, of whatever kind."""
    module, _, class_name = name.partition(":")
    named = source_files.named_class(class_name)
    if named is not None and not module.startswith("qsep_jax."):
        return named
    if module in digests:
        return _of_file(module, class_name, digests[module], folder)
    if name in System.registered:
        return System.registered[name]
    return _of_module(module, class_name, folder)


def copies(kinds: Iterator[type] | list[type]) -> dict[str, SourceFile]:
    """Return the files that define these classes, as far as they are in no ordinary module, by module.

    Raises:
      ValueError: if two different files have one name.
    """
    found: dict[str, SourceFile] = {}
    for source in filter(None, map(source_files.source_of, kinds)):
        if found.setdefault(source.module, source) != source:
            raise ValueError(f"two different files are called {source.module}.py: rename one of them")
    return found


def _of_file(module: str, class_name: str, digest: str, folder: Path | None) -> type:
    """Return a class of a file of this digest, if the user named such a file before."""
    copy = (folder or Path()) / SOURCES / f"{module}.py"
    executed = source_files.executed(module, digest)
    if executed is None:
        source = source_files.trusted(module, digest)
        if source is None:
            remedy = f"read {copy} and, if you trust it, set QSEP_SYSTEMS={copy}"
            raise ClassNotFound(
                f"the class {class_name} is defined in {module}.py, which was not used on this machine before and is "
                f"not executed: {remedy if copy.is_file() else 'set QSEP_SYSTEMS to that file'}"
            )
        executed = source_files.execute(source, copy)
    return _attribute(executed, class_name)


def _of_module(module: str, class_name: str, folder: Path | None) -> type:
    """Import a module and return a class of it, after a look at its source.

    A name in a file shall not make a process import any module there is: the module must define the class, and lie
    outside of the folder that names it.
    """
    files = _files(module)
    if folder is not None and any(file.resolve().is_relative_to(folder.resolve()) for file in files):
        raise ClassNotFound(f"the class {class_name} is defined within {folder}: move its module out of it")
    path = next(filter(Path.is_file, files), None)
    if path is None:
        raise ClassNotFound(
            f"the class {class_name} of the module {module} is missing: install it, or put its folder on PYTHONPATH"
        )
    if not _defines(path, class_name.split(".")[-1]):
        raise ClassNotFound(f"the module {module} ({path}) defines no class {class_name}")
    try:
        return _attribute(importlib.import_module(module), class_name)
    except ImportError as error:
        raise ClassNotFound(f"the module {module} of the class {class_name} cannot be imported: {error}") from error


def _files(module: str) -> list[Path]:
    """Return where a module may be, without executing the packages that it is in: files and folders, in order."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if not rest:
        return [Path(spec.origin)] if spec.origin else []
    folders = [Path(location) for location in spec.submodule_search_locations or ()]
    for part in rest[:-1]:
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
    return [folder / name for folder in folders for name in (f"{rest[-1]}.py", f"{rest[-1]}/__init__.py")]


def _defines(path: Path, class_name: str) -> bool:
    """Return whether the source of a module has a class of this name at its top level."""
    if path.suffix != ".py":
        return False
    try:
        nodes = ast.walk(ast.parse(path.read_bytes(), str(path)))
    except SyntaxError as error:
        raise ClassNotFound(f"{path} is no Python of this version: {error}") from None
    return any(isinstance(node, ast.ClassDef) and node.name == class_name for node in nodes)


def _attribute(module: ModuleType, class_name: str) -> type:
    value: object = module
    for part in class_name.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, type):
        raise ClassNotFound(f"the module {module.__name__} defines no class {class_name}")
    return value
