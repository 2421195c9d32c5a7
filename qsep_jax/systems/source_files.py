"""Python files outside of any importable module that define classes of an experiment, such as a config file.

A run and a bundle record the SHA-256 digest of such a file, and hold a copy for people to read. Another process finds
the classes in the user's cache folder, which keeps, by digest, every such file that the user named on this machine, by
`--config` or by `QSEP_SYSTEMS`. So opening a stranger's bundle never executes Python that came with it; a user who
wants that reads the copy and names it once.
"""

import dataclasses
import hashlib
import re
import sys
import types
import warnings
from pathlib import Path

import cloudpickle


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file of Python that defines classes.

    Attributes:
      module: Name of its module in `config.json`: the file's name without its suffix.
      content: Its bytes.
    """

    module: str
    content: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


# By the name in `sys.modules`, of every file that was executed here.
_executed: dict[str, SourceFile] = {}
# The modules of files that a user named in order that their classes be found, the last one first.
_named: list[types.ModuleType] = []


def read_source(path: Path) -> SourceFile:
    """Read a file of Python.

    Raises:
      OSError: if it cannot be read.
    """
    return SourceFile(re.sub(r"\W", "_", path.stem), path.read_bytes())


def execute(source: SourceFile, path: Path) -> types.ModuleType:
    """Execute a file once per process and content, as a module; `path` stands in tracebacks.

    Raises:
      ValueError: if the file cannot be executed; its own ValueErrors pass unchanged.
    """
    name = _module_name(source.module, source.digest)
    if name in _executed:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and cattrs look annotations up in the class's module.
    sys.modules[name], _executed[name] = module, source
    try:
        exec(compile(source.content, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name], _executed[name]
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"{path} cannot be executed: {type(error).__name__}: {error}") from error
    cloudpickle.register_pickle_by_value(module)  # the workers of Grain cannot import it
    return module


def executed(module: str, digest: str) -> types.ModuleType | None:
    """Return the module of a file that this process has executed already, or None."""
    name = _module_name(module, digest)
    return sys.modules[name] if name in _executed else None


def load_named(path: Path) -> types.ModuleType:
    """Execute a file that the user named in order that its classes be found, and trust its content from now on.

    Raises:
      OSError: if it cannot be read.
      ValueError: if it cannot be executed.
    """
    source = read_source(path)
    module = execute(source, path)
    trust(source)
    _named.insert(0, module)
    return module


def named_class(name: str) -> type | None:
    """Return the class of this name in a file that the user named, or None."""
    defined = {
        kind.__qualname__: kind
        for module in reversed(_named)
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    }
    return defined.get(name)


def source_of(kind: type) -> SourceFile | None:
    """Return the file that defines a class, or None for a class of an ordinary module."""
    return _executed.get(kind.__module__)


def trust(source: SourceFile) -> None:
    """Remember on this machine that the user named a file of this content."""
    path = _trusted_folder() / source.digest
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.content)
    except OSError as error:
        warnings.warn(f"{path}: {error.strerror}: other commands must be given {source.module}.py again", stacklevel=2)


def trusted(module: str, digest: str) -> SourceFile | None:
    """Return the file of this digest that the user named on this machine before, or None."""
    path = _trusted_folder() / digest
    if not re.fullmatch(r"[0-9a-f]{64}", digest) or not path.is_file():
        return None
    source = SourceFile(module, path.read_bytes())
    return source if source.digest == digest else None


def _module_name(module: str, digest: str) -> str:
    return f"qsep_file_{module}_{digest[:16]}"


def _trusted_folder() -> Path:
    return Path.home() / ".cache" / "qsep_jax" / "trusted"
