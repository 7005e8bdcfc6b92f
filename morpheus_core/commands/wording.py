"""What the package says of arguments of Python, in the words of the command line."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from morpheus_core.errors import MorpheusWarning

#: Arguments of Python whose option has another name; the first one that a command has is meant.
OTHER_NAMES = {
    "aggregate_method": ("aggregate",),
    "executor": ("dask",),
    "expected": ("priors",),
    "hdus": ("hdu",),
    "max_pixel": ("min_max",),
    "mean": ("z_score",),
    "min_pixel": ("min_max",),
    "model_inputs": ("inputs",),
    "products": ("product",),
    "progress": ("no_progress",),
    "stack_inputs": ("separate_inputs",),
    "std": ("z_score",),
    "thresholds": ("thresholds", "threshold"),
    "trained": ("trained_priors",),
    "window_shape": ("window",),
}
#: Arguments that several options stand for.
SEVERAL = {"normalize": ("min_max", "z_score")}
#: What commands that look at results tell of the one that makes them.
OF_PREDICT = {
    "begin_only": "predict --begin-only",
    "products": "predict --product",
    "resume": "predict --resume",
}
#: Which of the numbers of an option is meant.
PARTS = {"max_pixel": "MAX of ", "min_pixel": "MIN of ", "mean": "MEAN of ", "std": "STD of "}
#: Arguments that are True where their option is not given.
NEGATED = ("progress", "stack_inputs")
#: What may stand behind "name=".
VALUE = r"""True\b|False\b|None\b|"[^"]*"|'[^']*'|\([^()]*\)|\[[^\[\]]*\]|[\w.+-]*\w|"""
#: Names that no sentence has for anything else.
PLAIN = re.compile(
    r"""(?<![\w./'"\[-])(?<!\w\()(?:[a-z]+(?:_[a-z]+)+|cpus|gpus)(?![\w'"(=/-]|\.\w)"""
)
#: Names that are words as well speak of arguments where a sentence says what those must be, ...
SUBJECTS = re.compile(
    r"(?:^|(?<=; )|(?<=one of ))(?:[\w-]+(?:, | and | or ))*[\w-]+(?= must\b| needs?\b|, got\b)",
    re.MULTILINE,
)
#: ... or what they need.
OBJECTS = re.compile(r"(?<=need |eeds |s no )[\w-]+(?:(?: or |, )[\w-]+)*(?=[,:;]|$)", re.MULTILINE)


class Wording:
    """Writes arguments as the options that they are.

    Parameters
    ----------
    options : mapping of str to str
        What is typed for an argument, by the name under which it is parsed.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    @classmethod
    def of(cls, parser: argparse.ArgumentParser) -> Wording:
        """Know the options of a command."""
        return cls({action.dest: as_typed(action) for action in parser._actions})

    def __call__(self, text: str) -> str:
        """Return a text in which ``resume=True`` is ``--resume``."""
        text = re.sub(rf"(?<![\w./-])([a-z_]+)=({VALUE})", self._with_value, text)
        for places in SUBJECTS, OBJECTS:
            text = places.sub(self._each, text)
        text = PLAIN.sub(self._alone, text)
        return re.sub(r"(--[a-z-]+) of (?:an adapter|load_model|centre_crop)\b", r"\1", text)

    def _each(self, found: re.Match[str]) -> str:
        return re.sub(r"(?<!-)\b[a-z_]+\b", self._alone, found[0])

    def _option(self, name: str) -> str | None:
        if all(one in self._options for one in SEVERAL.get(name, ("",))):
            return " or ".join(self._options[one] for one in SEVERAL[name])
        for other in (*OTHER_NAMES.get(name, ()), name):
            if other in self._options:
                return PARTS.get(name, "") + self._options[other]
        return OF_PREDICT.get(name)

    def _alone(self, found: re.Match[str]) -> str:
        return self._option(found[0]) or found[0]

    def _with_value(self, found: re.Match[str]) -> str:
        option, value = self._option(found[1]), found[2]
        if option is None:
            return found[0]
        if value in ("None", str(found[1] in NEGATED)):
            return f"no {option}"
        if value in ("True", "False", ""):
            return option
        words = re.sub(r"[][()\"']", "", value).replace(", ", " ")
        return f"{option} {words}"


def as_typed(action: argparse.Action) -> str:
    """Return what is typed for an argument: its option, or where it stands without one."""
    named = [option for option in action.option_strings if option.startswith("--")]
    return named[0] if named else str(action.metavar or action.dest)


class InOptions(logging.Handler):
    """Shows what the package logs as what the command says.

    Parameters
    ----------
    wording : Wording
        Of the command.
    """

    def __init__(self, wording: Wording) -> None:
        super().__init__(logging.WARNING)
        self._wording = wording

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line."""
        tell(f"warning: {self._wording(record.getMessage())}")


def tell(text: str) -> None:
    """Print what a command says of itself."""
    print(f"morpheus-core: {text}", file=sys.stderr)


@contextmanager
def warnings_in_options(wording: Wording) -> Iterator[None]:
    """Show warnings of this package as what the command says; a line of its code helps nobody."""
    logger, handler = logging.getLogger("morpheus_core"), InOptions(wording)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            show = warnings.showwarning

            def show_in_options(
                message: Warning | str, category: type[Warning], *place: Any
            ) -> None:
                if issubclass(category, MorpheusWarning):
                    tell(f"warning: {wording(str(message))}")
                else:
                    show(message, category, *place)

            warnings.showwarning = show_in_options  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)
