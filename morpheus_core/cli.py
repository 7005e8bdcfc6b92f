"""The command ``morpheus-core``: parse, delegate, and turn errors into exit codes."""

from __future__ import annotations

import argparse
import io
import re
import sys
import traceback
from collections.abc import Container, Sequence

from morpheus_core.commands import (
    catalog,
    demo,
    evaluate,
    job_arrays,
    objects,
    package,
    predict,
    verify,
    view,
)
from morpheus_core.commands import map as map_command
from morpheus_core.errors import MorpheusError
from morpheus_core.version import __version__

EXAMPLE = """examples:
  morpheus-core demo --out-dir morpheus-demo
      simulate a small sky, classify every pixel of it, and draw the result
  morpheus-core predict image.fits --model net.onnx --n-classes 5 --window 40 --out-dir results
      classify every pixel of an image of yours
  morpheus-core view results --image image.fits
      draw that
  morpheus-core objects results labels.fits --class-name lens --threshold 0.9
      label the objects of a class
  morpheus-core evaluate results truth.fits
      compare it with what is known to be true

exit codes: 0; 1 for an error, which is explained; 2 for wrong usage; 130 after Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of this process by default.

    Returns
    -------
    int
        0, or 1 if the package refused or failed, or 130 after Ctrl-C. Wrong usage leaves through
        ``SystemExit(2)``.
    """
    arguments = make_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what notebooks have in its place takes any text
        # As stderr does: files have all sorts of names.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments.run(arguments)
    except MorpheusError as error:
        if arguments.verbose:
            traceback.print_exc()
        else:
            tell(str(error), error, arguments)
        return 1
    except KeyboardInterrupt as error:
        tell("interrupted", error, arguments)
        return 130
    return 0


def tell(message: str, error: BaseException, arguments: argparse.Namespace) -> None:
    """Print what went wrong, and what is left of it."""
    text = "\n".join([message, *getattr(error, "__notes__", ())])
    print(f"morpheus-core: {in_options(text, vars(arguments))}", file=sys.stderr)


def in_options(text: str, options: Container[str]) -> str:
    """Write arguments of Python as the options that they are, ``resume=True`` as ``--resume``."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if name not in options:
            return found[0]
        return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")

    return re.sub(r'\b([a-z_]+)=(?:True\b|"([^"]*)")', option, text)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="morpheus-core",
        description="Run a trained model over astronomical images too large for it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    shown = (
        *(demo, predict, job_arrays, catalog, map_command),
        *(objects, view, evaluate, verify, package),
    )
    for command in shown:
        command.add(commands)
    return parser
