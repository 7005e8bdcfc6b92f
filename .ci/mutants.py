"""Change the code of a folder a little, again and again, and list the changes that no test notices.

    python .ci/mutants.py windows --sample 100 --seed 1

Each change (a *mutant*, made by cosmic-ray) is tried with the tests of the same folder, in a copy
of the repository under build/. One that survives is a missing test, or makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome

COPY = Path("build", "mutants")
# Loops that are not compiled warn where a pixel has no predictions.
QUIET = "-W 'ignore:divide by zero' -W 'ignore:invalid value'"
COMMAND = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {QUIET} -m 'not slow'"
#: A mutant that runs this many times as long as the tests without one never ends.
PATIENCE = 4


def main() -> None:
    """Try the mutants of one folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="of morpheus_core, and of tests")
    parser.add_argument("--sample", type=int, default=0, help="how many (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    arguments = parser.parse_args()
    copy_repository()
    os.chdir(COPY)
    mutants = sorted(mutants_of(Path("morpheus_core", arguments.folder)), key=place)
    total = len(mutants)
    if arguments.sample:
        mutants = random.Random(arguments.seed).sample(mutants, min(arguments.sample, total))
    print(f"{len(mutants)} of {total} mutants of {arguments.folder}, seed {arguments.seed}")
    survivors = try_all(mutants, f"{COMMAND} {Path('tests', arguments.folder)}")
    print(f"{len(mutants) - survivors} of {len(mutants)} were noticed, {survivors} survived")


def copy_repository() -> None:
    """Copy what tests need, so that no change is left in the repository."""
    shutil.rmtree(COPY, ignore_errors=True)
    unneeded = shutil.ignore_patterns(".venv*", ".git", "build", "__pycache__", ".*_cache")
    shutil.copytree(".", COPY, ignore=unneeded)
    os.environ["PYTHONPATH"] = str(COPY.absolute())  # before what is installed
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled loops would be those of an earlier mutant


def mutants_of(folder: Path) -> Iterator[MutationSpec]:
    """Find what can be changed, but for annotations, which nothing evaluates."""
    modules = sorted(folder.rglob("*.py"))
    annotated = {module: annotations(module) for module in modules}
    with use_db("mutants.sqlite") as session:
        init(modules, session, {})
        for item in session.work_items:
            (mutant,) = item.mutations
            spans = annotated[mutant.module_path]
            if not any(start <= mutant.start_pos < end for start, end in spans):
                yield mutant


def annotations(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations begin and end, as (line, column)."""
    nodes = [
        getattr(node, name, None)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for name in ("annotation", "returns")
    ]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if node is not None
    ]


def place(mutant: MutationSpec) -> tuple[str, str, int]:
    """Return what orders mutants alike in every run."""
    return str(mutant.module_path), mutant.operator_name, mutant.occurrence


def try_all(mutants: list[MutationSpec], command: str) -> int:
    """Print the mutants that survive, and return how many they are."""
    start = time.monotonic()
    outcome, said = run_tests(command, None)
    if outcome is not TestOutcome.SURVIVED:
        sys.exit(f"the tests fail without a change:\n{said}")
    timeout = 10 + PATIENCE * (time.monotonic() - start)
    survivors = 0
    for number, mutant in enumerate(mutants, 1):
        result = mutate_and_test([mutant], command, timeout)
        if not result.is_killed:
            survivors += 1
            print(f"\n{number}: {mutant.operator_name}\n{result.diff}", flush=True)
    return survivors


if __name__ == "__main__":
    main()
