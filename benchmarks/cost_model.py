"""What runs on clusters take: measured here with one and two workers, carried on to many GPUs.

``python benchmarks/cost_model.py`` measures, which takes about two minutes and wants a machine that
does nothing else, and writes ``measured/cost_model.json``, ``measured/cost_model.txt`` and
``images/cost_model.svg`` in ``docs``. With ``--draw`` the last two are made of what was measured
before.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from cost_drawing import draw
from cost_measurements import Measurements, Sample, measure
from cost_tables import tables

DOCS = Path(__file__).parents[1] / "docs"
MEASURED = DOCS / "measured" / "cost_model.json"


def main(arguments: list[str]) -> None:
    """Measure, unless told not to, and write what the page shows."""
    if "--draw" not in arguments:
        MEASURED.parent.mkdir(exist_ok=True)
        MEASURED.write_text(json.dumps(asdict(measure()), indent=1) + "\n")
    measured = read(MEASURED)
    MEASURED.with_suffix(".txt").write_text(tables(measured))
    draw(measured, DOCS / "images" / "cost_model.svg")


def read(path: Path) -> Measurements:
    """Return what was measured before."""
    stored = json.loads(path.read_text())
    stored["samples"] = [Sample(**sample) for sample in stored["samples"]]
    return Measurements(**stored)


if __name__ == "__main__":
    main(sys.argv[1:])
