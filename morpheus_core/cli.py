"""The command ``morpheus-core``: parse, delegate, and turn errors into exit codes."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence

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
from morpheus_core.commands.parser import Parser
from morpheus_core.commands.requests import asked_again, without_demands
from morpheus_core.commands.wording import Wording, as_typed, tell, warnings_in_options
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
    if isinstance(sys.stdout, io.TextIOWrapper):  # what notebooks have in its place takes any text
        # As stderr does: files have all sorts of names.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
    except MorpheusError as error:
        tell(str(error))
        return 1
    wording = Wording.of(arguments.parser)
    try:
        with warnings_in_options(wording):
            arguments.run(arguments)
        sys.stdout.flush()
    except MorpheusError as error:
        if arguments.verbose:
            traceback.print_exc()
        else:
            message = with_option(wording(str(error)), arguments)
            tell(wording(with_notes(message, error)))
        return 1
    except KeyboardInterrupt as error:
        tell(wording(with_notes("interrupted", error)))
        return 130
    except BrokenPipeError:  # whoever reads what is printed, as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def with_notes(message: str, error: BaseException) -> str:
    """Return what went wrong, and what is left of it."""
    return "\n".join([message, *getattr(error, "__notes__", ())])


def with_option(message: str, arguments: argparse.Namespace) -> str:
    """Return a message about a missing file with the option that names the file."""
    found = re.match("no such file: (.*)", message)
    for action in arguments.parser._actions if found else ():
        value = getattr(arguments, action.dest, None)
        if found and found[1] in (value if isinstance(value, list) else [value]):
            return f"{as_typed(action)}: {message}"
    return message


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what is asked for, some of it perhaps by a file.

    Raises
    ------
    InputError
        If that file cannot be used.
    """
    if not any(word.partition("=")[0] == "--config" for word in words):
        return make_parser().parse_all(words)
    parser = make_parser()
    without_demands(parser)
    given = parser.parse_all(words)
    return asked_again(parsers_of(make_parser())[given.command], given)


def parsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each subcommand, and of the actions below it, by name."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found[name] = command
                found |= {f"{name} {k}": v for k, v in parsers_of(command).items()}
    return found


def make_parser() -> Parser:
    """Return the parser of all subcommands."""
    parser = Parser(
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
    for name, one in parsers_of(parser).items():
        one.set_defaults(command=name, parser=one)
    return parser
