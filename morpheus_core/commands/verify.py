"""``morpheus-core verify``."""

from __future__ import annotations

import argparse

from morpheus_core.commands.arguments import add_verbose
from morpheus_core.errors import InputError
from morpheus_core.results.verification import verify

#: How many differences are printed.
MOST = 10


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="read outputs again, and compare them with what was computed",
        description="Read all outputs of a run, and compare them with the sums in their headers,\n"
        "which were added up while the rows were computed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", metavar="DIR", help="where predict has written its outputs")
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.verify`.

    Raises
    ------
    InputError
        If anything differs.
    """
    found = verify(arguments.out_dir)
    if found:
        more = f"\nand {len(found) - MOST} more" if len(found) > MOST else ""
        lines = "\n".join(map(str, found[:MOST]))
        raise InputError(f"outputs are not what was computed:\n{lines}{more}")
    print(f"{arguments.out_dir}: every byte is as it was computed")
