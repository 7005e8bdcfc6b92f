"""A parser whose errors are one line, and name what was meant."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser of the command or of a subcommand; options are not to be shortened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where the usage is, which is long."""
        print(f"{self.prog}: error: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse words, and let the subcommand tell of those that nobody knows."""
        arguments, unknown = self.parse_known_args(words)
        if unknown:
            arguments.parser.refuse(unknown)
        return arguments

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Say which words are unknown, and which options are like them."""
        known = [option for action in self._actions for option in action.option_strings]
        named = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        like = [close for word in named for close in difflib.get_close_matches(word, known, 1)]
        hint = f" (did you mean {', '.join(like)}?)" if like else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
