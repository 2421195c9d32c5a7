"""Test parsers with damaged files: `python -m tests.fuzz PARSER --seconds 3600 --seed 1`.

`all` runs every parser in turn. The exit code is 1 if a parser raised anything but a ValueError of one line or used too
much memory, and 3 if it took too long. `--case 1/234` runs one case again and keeps its traceback.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.parsers import PARSERS
from tests.fuzz.running import damaged, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parser", choices=[*PARSERS, "all"])
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each parser")
    parser.add_argument("--cases", type=int, default=0, help="number of files for each parser, instead of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="a case that failed, SEED/NUMBER")
    options = parser.parse_args()
    if options.case:
        _repeat(options.parser, options.case)
        return
    failures = 0
    for name in PARSERS if options.parser == "all" else [options.parser]:
        start = time.monotonic()
        result = run(PARSERS[name], options.seed, cases=options.cases, seconds=options.seconds)
        failures += len(result.failures)
        print(
            f"{name}: {result.cases} cases in {time.monotonic() - start:.0f} s: {result.read} read, "
            f"{result.refused} refused, {len(result.failures)} failed",
            flush=True,
        )
        for case, what in result.failures[:5]:
            print(f"  --case {case}: {what}", flush=True)
    sys.exit(bool(failures))


def _repeat(name: str, case: str) -> None:
    parser = PARSERS[name]
    with tempfile.TemporaryDirectory() as folder:
        parser.make(Path(folder))
        path = Path(folder) / parser.file
        path.write_bytes(damaged(path.read_bytes(), case))
        parser.parse(path)


if __name__ == "__main__":
    main()
