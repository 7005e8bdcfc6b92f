"""``morpheus-core demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from morpheus_core.commands.arguments import add_verbose


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="simulate a small sky, classify every pixel of it, and draw the result",
        description="Simulate a small sky, classify every pixel of it with a small network that "
        "comes with this package, compare with the truth, and draw the result.",
        epilog="example: morpheus-core demo --out-dir morpheus-demo",
    )
    demo.add_argument(
        "--out-dir",
        type=Path,
        default=Path("morpheus-demo"),
        metavar="DIR",
        help="where images and results go (default: %(default)s)",
    )
    demo.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_verbose(demo)
    demo.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Delegate to the demonstration, whose imports other commands need not wait for."""
    from morpheus_core.demo.run import run_demo

    run_demo(arguments.out_dir, arguments.overwrite)
