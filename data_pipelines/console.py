"""The console of all commands: options from a dataclass, one line for each error of the user, short warnings."""

import contextlib
import errno
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tyro

from data_pipelines import signals
from data_pipelines.checks import Check
from data_pipelines.files import FREE_SPACE
from data_pipelines.option_errors import one_line

T = TypeVar("T")

# Wide enough that tyro does not wrap the text of an error.
_WIDTH = "10000"
# The remedy where memory runs out.
MORE_MEMORY = "use smaller batches (--train.batch-size) or shorter files, or end other programs that use the memory"


def run(main: Callable[[], None]) -> None:
    """Run a command; an error that its user can correct is one line on stderr, with exit code 2.

    A signal that ends the command lets it remove what it has not finished, and sets the exit code that a shell expects.
    With `QSEP_TRACEBACK=1` in the environment the error keeps its traceback.
    """
    _set_up()
    try:
        with signals.as_exits():
            main()
    except BrokenPipeError:  # `qsep … --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except signals.Ended as ended:
        print(f"stopped by {ended.name}", file=sys.stderr)
        raise SystemExit(ended.code) from None
    except (ValueError, OSError, MemoryError) as error:
        if os.environ.get("QSEP_TRACEBACK"):
            raise
        print(f"error: {message_of(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def message_of(error: Exception) -> str:
    """The message of an error as the user reads it, one line; errors of the operating system name the file first."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        remedy = f": {FREE_SPACE}" if error.errno == errno.ENOSPC and FREE_SPACE not in error.strerror else ""
        message = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}{remedy}"
    elif isinstance(error, MemoryError):
        message = f"out of memory{f' ({error})' if str(error) else ''}: {MORE_MEMORY}"
    # The name of a file may hold a line break or a code that moves the cursor.
    return "".join(
        character if character >= " " and character != "\x7f" else repr(character)[1:-1] for character in message
    )


def _set_up() -> None:
    import absl.logging

    # The errors that libraries log are raised as well, and then they are one line.
    with_tracebacks = bool(os.environ.get("QSEP_TRACEBACK"))
    absl.logging.set_verbosity(absl.logging.ERROR if with_tracebacks else absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR if with_tracebacks else logging.CRITICAL)
    # The process that removes the semaphores and the shared memory of a killed command warns that there were some.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of file names that are no UTF-8, or that a terminal lacks
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    # Libraries warn of deprecations that a user of this project cannot change.
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=UserWarning, module=r"(__main__|qsep_jax|data_pipelines)\b")


def parse(
    kind: type[T],
    name: str,
    example: str,
    arguments: Sequence[str] | None = None,
    config: tuple[Any, ...] = (),
    registry: tyro.constructors.ConstructorRegistry | None = None,
) -> T:
    """Parse command-line arguments into an instance of the dataclass `kind`; its docstring becomes `--help`.

    Args:
      name: The program as the help text names it, such as `qsep separate`.
      example: A command line that the help text shows.
      arguments: `sys.argv[1:]` by default.
      config: Markers of tyro that hold for all options.
      registry: Further rules of tyro for types of options.

    Raises:
      ValueError: For an unknown option, with the most similar known one, a missing option, or an invalid value.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    description = f"{summary(kind)}\n\nExample: {example}"
    with one_line_errors(name, arguments):
        return tyro.cli(kind, prog=name, description=description, args=arguments, config=config, registry=registry)


def summary(kind: type) -> str:
    """The docstring of a dataclass of options without its attributes."""
    return inspect.cleandoc(kind.__doc__ or "").split("Attributes:")[0].strip()


@contextlib.contextmanager
def one_line_errors(name: str, arguments: Sequence[str]) -> Iterator[None]:
    """Within this context, tyro's refusal of `arguments` is a ValueError of one line instead of a box on stderr."""
    stderr = io.StringIO()
    width = {} if {"-h", "--help"} & {*arguments} else {"COLUMNS": _WIDTH}
    before = os.environ.get("COLUMNS")
    os.environ.update(width)
    try:
        with contextlib.redirect_stderr(stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"tyro\b")  # of defaults outside of their declared type
            yield
    except SystemExit as exit_:
        if exit_.code:
            raise ValueError(_dashed_file(arguments) or one_line(stderr.getvalue(), name)) from None
        raise
    finally:
        if width and before is None:
            del os.environ["COLUMNS"]
        elif width and before is not None:
            os.environ["COLUMNS"] = before
    sys.stderr.write(stderr.getvalue())


def _dashed_file(arguments: Sequence[str]) -> str:
    """The error message if an argument that is taken for an option is the name of a file; else empty."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for argument in options:
        if argument.startswith("-") and os.path.exists(argument):
            return (
                f"{argument} is taken for an option: give -- before file names that begin with a dash, or ./{argument}"
            )
    return ""


def report(checks: Iterable[Check]) -> None:
    """Print each check as soon as it is made.

    Raises:
      ValueError: after the last one, if something is damaged.
    """
    faults = total = 0
    for result in checks:
        print(result.line, flush=True)
        faults, total = faults + bool(result.fault), total + 1
    if faults:
        raise ValueError(f"{faults} of {total} parts are damaged: the lines above say how to repair them")


def need_positive(options: Any, *names: str) -> None:
    """Raise ValueError for the first of these fields that is not positive, by the name of its option."""
    for name in names:
        if getattr(options, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, not {getattr(options, name):g}")
