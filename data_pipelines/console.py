"""What every command shares: options from a dataclass, one clear line for each mistake, tidy warnings."""

import dataclasses
import difflib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def run(main: Callable[[], None]) -> None:
    """Run a command. What its user can mend is said in one line on stderr, with exit code 2.

    `QSEP_TRACEBACK=1` shows where it came from.
    """
    _set_up()
    try:
        main()
    except BrokenPipeError:  # `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except (ValueError, OSError) as error:
        if os.environ.get("QSEP_TRACEBACK"):
            raise
        print(f"error: {in_words(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def in_words(error: Exception) -> str:
    """What the user is told of an error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _set_up() -> None:
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    # Only what this project says: libraries deprecate things that its users cannot change.
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=UserWarning, module=r"(__main__|qsep_jax|data_pipelines)\b")


def parse(
    kind: type[T], name: str, example: str, arguments: Sequence[str] | None = None, config: tuple[Any, ...] = ()
) -> T:
    """Command-line arguments as an instance of the dataclass `kind`, with `--help` made from its docstring.

    Args:
      name: what it is called on the command line, `python -m qsep_jax.train`.
      example: shown by `--help`.
      config: of tyro's markers.

    Raises:
      ValueError: for an unknown option; names the nearest known one.
    """
    description = f"{inspect.cleandoc(kind.__doc__ or '').split('Attributes:')[0].strip()}\n\nExample: {example}"
    value, unknown = tyro.cli(
        kind, prog=name, description=description, args=arguments, return_unknown_args=True, config=config
    )
    if unknown:
        options = _options(value)
        if tyro.conf.OmitArgPrefixes in config:
            options = [f"--{option.removeprefix('--').rsplit('.', 1)[-1]}" for option in options]
        near = difflib.get_close_matches(unknown[0], options, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; see {name} --help"
        raise ValueError(f"unknown option '{unknown[0]}'{hint}")
    return value


def need_positive(options: Any, *names: str) -> None:
    """Raise ValueError for the first of these fields that is not positive, by the name of its option."""
    for name in names:
        if getattr(options, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, not {getattr(options, name):g}")


def _options(value: Any, prefix: str = "--") -> list[str]:
    """The options that fill the fields of a dataclass and of all below it."""
    found = []
    for field in dataclasses.fields(value):
        option = prefix + field.name.replace("_", "-")
        inner = getattr(value, field.name)
        members = inner if isinstance(inner, dict) else {"": inner}
        for key, member in members.items():
            path = f"{option}.{key}" if key else option
            found += _options(member, f"{path}.") if dataclasses.is_dataclass(member) else [path]
    return found
