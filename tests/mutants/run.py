"""Change single lines of the pure modules, and report which changes no test notices.

    python tests/mutants/run.py [--seed N] [--sample N]

Each change is tested by the test files of its own module alone. pyproject.toml lists the modules
with their test files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from mutants import Mutant, sample

NUM_PROCESSES = 2
_FOLDERS = ("pipeline", "training", "jobs", "tests")
# Tests that take T seconds without a change get _SPARE_S + _FACTOR * T with one.
_SPARE_S, _FACTOR = 30.0, 5.0
_LIMIT_S = 600.0
_ENVIRONMENT = {
    # The time stamps of bytecode are too coarse for changes that follow one another.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
}
# Imported once by the process that all tests are forked from; nothing of the project.
_PRELOADED = [
    "__main__",
    "hypothesis",
    "pyarrow.parquet",
    "pydantic",
    "sacrebleu",
    "torch",
    "upath",
]


@dataclass(frozen=True)
class Result:
    """Whether a test noticed a mutant, and the seconds its tests took."""

    mutant: Mutant
    is_killed: bool
    seconds: float


def judge(mutants: Sequence[Mutant], tests: Mapping[str, Sequence[str]]) -> Iterator[Result]:
    """Test each mutant in a copy of the project.

    Args:
        mutants: changed modules.
        tests: the test files of each module.

    Raises:
        SystemExit: the tests of a module fail without a change.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(NUM_PROCESSES):
            copies.put(_copy(Path(scratch) / str(number)))

        @contextmanager
        def a_copy() -> Iterator[Path]:
            folder = copies.get()
            try:
                yield folder
            finally:
                copies.put(folder)

        def time_unchanged(module: str) -> float:
            with a_copy() as folder:
                began = time.monotonic()
                if not _pass(folder, tests[module], _LIMIT_S):
                    output = (folder / "output").read_text(errors="replace")
                    raise SystemExit(f"{module}: its tests fail without a change:\n{output}")
                return time.monotonic() - began

        def test(mutant: Mutant) -> Result:
            with a_copy() as folder:
                file, began = folder / mutant.module, time.monotonic()
                file.write_text(mutant.code)
                is_killed = not _pass(folder, tests[mutant.module], limits[mutant.module])
                shutil.copy(mutant.module, file)
                return Result(mutant, is_killed, time.monotonic() - began)

        modules = sorted({mutant.module for mutant in mutants})
        with ThreadPoolExecutor(NUM_PROCESSES) as pool:
            seconds = pool.map(time_unchanged, modules)
            limits = {m: _SPARE_S + _FACTOR * s for m, s in zip(modules, seconds, strict=True)}
            yield from pool.map(test, mutants)


def _copy(folder: Path) -> Path:
    """Copy what tests need."""
    for name in _FOLDERS:
        shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", folder)
    # Under the name that they are installed by, before the installed package is found.
    package = folder / "intertitle"
    package.mkdir()
    for path in (*(folder / "jobs" / "api").iterdir(), *(folder / f for f in _FOLDERS[:3])):
        (package / path.name).symlink_to(path)
    return folder


def _pass(folder: Path, tests: Sequence[str], limit_s: float) -> bool:
    """Whether tests pass within a time limit; what they started ends with them."""
    process = multiprocessing.get_context("forkserver").Process(
        target=_run_tests, args=(str(folder), list(tests))
    )
    process.start()
    process.join(limit_s)
    if process.is_alive():
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _run_tests(folder: str, tests: Sequence[str]) -> None:
    """Run tests on the modules of a folder until the first failure; what a new process does."""
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import intertitle.pipeline as pipeline

    assert Path(str(pipeline.__file__)).is_relative_to(folder), pipeline.__file__
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    # Without waiting for threads that a changed module may have left.
    os._exit(code)


def main() -> None:
    """Print what became of each mutant and the survivors' changes; exit 1 if too many survive."""
    config = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutants"]
    parser = argparse.ArgumentParser(description="Report changes of lines that no test notices.")
    parser.add_argument("--seed", type=int, default=config["seed"])
    parser.add_argument("--sample", type=int, default=config["sample"])
    arguments = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    mutants = sample(list(config["modules"]), arguments.sample, arguments.seed)
    num_killed = 0
    for number, result in enumerate(judge(mutants, config["modules"]), start=1):
        mutant, fate = result.mutant, "killed" if result.is_killed else "SURVIVED"
        where = f"{mutant.module}:{mutant.line} {mutant.operator}"
        print(f"{number}/{len(mutants)} {fate} {where} ({result.seconds:.0f} s)", flush=True)
        num_killed += result.is_killed
        if not result.is_killed:
            print(f"\n{mutant.diff()}\n", flush=True)
    share = num_killed / len(mutants)
    print(f"{share:.0%} of {len(mutants)} mutants killed, seed {arguments.seed}")
    sys.exit(share < config["least_killed"])


if __name__ == "__main__":
    main()
