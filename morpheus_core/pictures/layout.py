"""Where panels, what is written above them, and a legend are on a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Self

import numpy as np

#: Inches that a figure may take, apart from its legend: as wide as a notebook shows it.
WIDTH, HEIGHT = 9.0, 9.0
#: Inches left of the panels, for angles and for pixels.
ANGLES, PIXELS = 1.1, 0.75
#: Inches right of the panels, and between them.
RIGHT, BETWEEN = 0.25, 0.2
#: Inches for what is written above each panel, and for labels and ticks below the lowest.
ABOVE, BELOW = 0.52, 0.5
#: Inches that what is written above a panel needs in any case.
NARROWEST = 1.75
#: Part of the width of a figure that panels must fill, if they can.
SPARSEST = 0.6
#: Inches of a line of the legend, of its colour, and of a letter.
LINE, SWATCH, LETTER = 0.22, 0.65, 0.075
#: Inches of a line of the notes below the legend, and of a letter of it.
NOTE_LINE, NOTE_LETTER = 0.17, 0.066
#: Left, bottom, width and height.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class FigureLayout:
    """Where panels are on a figure, in inches from its lower left corner.

    Attributes
    ----------
    left : float
        Where the first panel begins.
    rows, columns : int
        Of panels.
    width, height : float
        Of a panel.
    letters : tuple of int
        Of each name in the legend below the panels.
    notes : tuple of str
        Sentences below the legend.
    """

    left: float
    rows: int
    columns: int
    width: float
    height: float
    letters: tuple[int, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, count: int, aspect: float, left: float, names: Sequence[str], notes: Sequence[str] = ()
    ) -> Self:
        """Make panels of an aspect, width over height, as large as they can be."""
        free = WIDTH - left - RIGHT
        choices = []
        for columns in (columns for columns in range(1, count + 1) if count % columns == 0):
            rows = count // columns
            height = (HEIGHT - BELOW - rows * ABOVE) / rows
            width = min((free + BETWEEN) / columns - BETWEEN, height * aspect)
            choices.append((columns * width > SPARSEST * free, width, columns))
        _, width, columns = max(choices)
        letters = tuple(map(len, names))
        rows = count // columns
        return cls(left, rows, columns, width, width / aspect, letters, tuple(notes))

    @property
    def cell(self) -> float:
        """Width that a panel and what is written above it take."""
        return max(self.width, NARROWEST)

    @property
    def block(self) -> float:
        """Width of all panels."""
        return self.columns * (self.cell + BETWEEN) - BETWEEN

    @property
    def legend_columns(self) -> int:
        """How many names stand side by side: as many as fit, in lines of the same length."""
        widths = np.cumsum(SWATCH + LETTER * np.sort(self.letters)[::-1])
        most = max(1, int((widths < self.block).sum()))
        return -(-len(widths) // -(-len(widths) // most))

    @property
    def legend_height(self) -> float:
        """Height of all names."""
        return LINE * -(-len(self.letters) // self.legend_columns) + 0.12

    @property
    def note_lines(self) -> list[str]:
        """The notes, in lines no wider than the panels."""
        letters = int(self.block / NOTE_LETTER)
        return [line for note in self.notes for line in wrap(note, letters)]

    @property
    def notes_height(self) -> float:
        """Height of all notes."""
        return NOTE_LINE * len(self.note_lines) + (0.08 if self.notes else 0)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        below = BELOW + self.legend_height + self.notes_height
        height = below + self.rows * (self.height + ABOVE)
        return self.left + self.block + RIGHT, height

    def corner(self, place: int) -> tuple[float, float]:
        """Return where the lower left corner of a panel is; they are placed row by row."""
        row, column = divmod(place, self.columns)
        left = self.left + column * (self.cell + BETWEEN)
        return left, self.size[1] - (row + 1) * (ABOVE + self.height)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return a place in parts of the figure."""
        width, height = self.size
        return x / width, y / height

    def box(self, left: float, bottom: float, width: float, height: float) -> Box:
        """Return a rectangle in parts of the figure."""
        return (*self.point(left, bottom), *self.point(width, height))

    def is_lowest(self, place: int) -> bool:
        """Say whether no panel is below this one."""
        return place >= (self.rows - 1) * self.columns

    def is_leftmost(self, place: int) -> bool:
        """Say whether no panel is left of this one."""
        return place % self.columns == 0
