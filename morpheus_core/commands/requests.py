"""What a command is asked for, as JSON values, and how to ask for it again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morpheus_core.commands.wording import as_typed
from morpheus_core.errors import InputError

#: What is no part of a request: keys of storage are for nobody else to read, and whoever asks again
#: must say again what may be replaced.
LEFT_OUT = ("help", "config", "unset", "verbose", "json", "storage_options", "overwrite", "resume")
#: Commands that take the requests of another one.
TAKES = {"plan": "predict"}
#: What a file of a request holds.
CONTENT = {"command": str, "arguments": dict, "inputs": dict, "outputs": dict}


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that reads a request."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the run.json of a finished run, to ask for the same again; what else is given\n"
        "replaces what it says",
    )
    parser.add_argument(
        "--unset",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="options of --config that are not to be asked for again, as in --unset mask crop",
    )


def as_json(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the words of each option, null or false for those that are not given."""
    return {
        as_typed(action): words(getattr(arguments, action.dest))
        for action in arguments.parser._actions
        if action.dest not in LEFT_OUT
    }


def words(value: Any) -> Any:
    """Return what is typed for a value."""
    if value is None or isinstance(value, bool):
        return value
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else str(value)


def read_request(name: str) -> dict[str, Any]:
    """Read the file of a request.

    Raises
    ------
    InputError
        If it is no such file.
    """
    try:
        request = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
        if not all(isinstance(request[key], kind) for key, kind in CONTENT.items()):
            raise ValueError("it holds something else")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--config must be the run.json of a finished run, got {name}: {error}; a run that was "
            f"interrupted goes on with its own options and --resume"
        ) from error
    return dict(request)


def without_demands(parser: argparse.ArgumentParser) -> None:
    """Change a parser, and those of its commands: nothing is required, and nothing has a default.

    Then what is parsed is what was given.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                without_demands(command)
        elif action.dest != "help":
            action.default, action.required = argparse.SUPPRESS, False
            if not action.option_strings and action.nargs == "+":
                action.nargs = "*"


def asked_again(parser: argparse.ArgumentParser, given: argparse.Namespace) -> argparse.Namespace:
    """Return what a request asks for, with what is given in place of that.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command, with all defaults.
    given : Namespace
        What a parser :func:`without_demands` has made of what was typed.

    Raises
    ------
    InputError
        If the request is of another command, or asks for what there is not.
    """
    name, request = given.config, read_request(given.config)
    if request["command"] != TAKES.get(given.command, given.command):
        raise InputError(
            f"--config must be of the same command, {given.command}, got {name} of "
            f"{request['command']}"
        )
    actions = {as_typed(action): action for action in parser._actions}
    unknown = sorted(set(request["arguments"]) - set(actions))
    if unknown:
        raise InputError(f"{name} asks for {', '.join(unknown)}, which this version does not know")
    replaced = replaced_by(parser, vars(given)) | unset(actions, given)
    kept = {
        typed: value
        for typed, value in request["arguments"].items()
        if actions[typed].dest not in (*replaced, *LEFT_OUT)
    }
    asked = given.parser.parse_args(list(typed_again(kept, actions)), argparse.Namespace())
    usual = {action.dest: action.default for action in parser._actions}
    named = {**vars(asked), **vars(given)}
    lacking = [typed for typed, one in actions.items() if one.required and one.dest not in named]
    if lacking:
        parser.error(f"the following arguments are required: {', '.join(lacking)}")
    return argparse.Namespace(**{**usual, **named})


def unset(actions: Mapping[str, argparse.Action], given: argparse.Namespace) -> set[str]:
    """Return what is not to be asked for again.

    Raises
    ------
    InputError
        If there is no such option.
    """
    names = [f"--{name.lstrip('-')}" for name in getattr(given, "unset", ())]
    for name in names:
        if name not in actions:
            raise InputError(f"--unset must be options of {given.command}, got {name[2:]}")
    return {actions[name].dest for name in names}


def replaced_by(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> set[str]:
    """Return what is given, and what does not go together with that."""
    groups = [
        {action.dest for action in group._group_actions}
        for group in parser._mutually_exclusive_groups
    ]
    return set(given).union(*(group for group in groups if group & set(given)))


def typed_again(
    request: Mapping[str, Any], actions: Mapping[str, argparse.Action]
) -> Iterator[str]:
    """Yield the words of a command, those without an option first."""
    for typed, value in sorted(request.items(), key=lambda item: item[0].startswith("--")):
        action = actions[typed]
        values = value if isinstance(value, list) else [value]
        if not action.option_strings:
            yield from values
        elif isinstance(value, bool) and not isinstance(action, argparse.BooleanOptionalAction):
            yield from [typed] * value
        elif isinstance(value, bool):
            yield typed if value else typed.replace("--", "--no-", 1)
        elif isinstance(action, argparse._AppendAction) or isinstance(value, str):
            yield from (f"{typed}={one}" for one in values if one is not None)
        elif value is not None:
            yield from (typed, *values)
