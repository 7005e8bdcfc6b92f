"""Small runs of strips, of rows of catalogues and of exposures, and a model that watches them."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from morpheus_core import map_exposures, predict, predict_catalog

IMAGE = np.random.default_rng(5).normal(size=(90, 40)).astype("f4")


class Probe:
    """A model that notes in which process it is loaded and called, and may end one of them.

    What it notes is "load PID" and "call PID N", a line each.
    """

    def __init__(self, notes, kill_after=None, victim=None, error=None):
        self.notes, self.kill_after, self.victim, self.error = notes, kill_after, victim, error

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.note(f"load {os.getpid()}")

    def note(self, line):
        with open(self.notes, "a") as file:  # noqa: PTH123 - one write, which is not mixed with others
            file.write(f"{line}\n")

    def __call__(self, batch):
        if self.error is not None:
            raise self.error
        self.note(f"call {os.getpid()} {len(batch[0])}")
        if self.kill_after is not None and len(self.calls()) >= self.kill_after:
            with contextlib.suppress(FileExistsError):
                Path(f"{self.notes}.killed").touch(exist_ok=False)
                os.kill(self.victim or os.getpid(), signal.SIGKILL)
        centre = batch[0].reshape(len(batch[0]), -1).mean(axis=1)
        bright = 1 / (1 + np.exp(-centre))
        return np.stack([bright, 1 - bright], axis=1)

    def calls(self):
        """Return (process, windows) of each call."""
        lines = [line.split() for line in Path(self.notes).read_text().splitlines()]
        return [(int(pid), int(count[0])) for kind, pid, *count in lines if kind == "call"]

    def loads(self):
        """Return the processes, other than this one, in which it was loaded, once for each time."""
        lines = [line.split() for line in Path(self.notes).read_text().splitlines()]
        loads = [int(pid) for kind, pid, *_ in lines if kind == "load"]
        return [pid for pid in loads if pid != os.getpid()]


class Strips:
    """Strips of an image."""

    errors_are_raised = True
    steps = 41 * 16  # windows

    def prepare(self, folder):
        """There is nothing to be made."""

    def run(self, model, folder, **where):
        if not where.keys().isdisjoint({"cpus", "executor"}):
            where["strips"] = 6
        hduls, arrays = predict(
            model, IMAGE, 2, 16, (10, 10), stride=(2, 2), aggregate_method="mean_var",
            out_dir=folder / "out", progress=False, **where,
        )  # fmt: skip
        results = [np.array(array) for array in arrays]
        for hdul in hduls:
            hdul.close()
        return results


class Rows:
    """Blocks of rows of a catalogue."""

    errors_are_raised = True
    steps = 500  # rows

    def prepare(self, folder):
        """There is nothing to be made."""

    def run(self, model, folder, **where):
        random = np.random.default_rng(7)
        catalog = Table({"x": random.uniform(0, 39, 500), "y": random.uniform(0, 89, 500)})
        table = predict_catalog(
            model, IMAGE, catalog, 2, 8, (10, 10), folder / "out.fits", progress=False,
            overwrite=True, **where,
        )  # fmt: skip
        return [np.array(table[name]) for name in ("class_0", "class_1", "status")]


class Exposures:
    """HDUs of exposures."""

    errors_are_raised = False
    steps = 3 * 4 * 41  # windows

    def prepare(self, folder):
        for number in range(3):
            images = [fits.ImageHDU(IMAGE[:, 10 * k : 10 * k + 10] + number) for k in range(4)]
            table = fits.BinTableHDU(Table({"a": [number]}))
            fits.HDUList([fits.PrimaryHDU(), *images, table]).writeto(folder / f"{number}.fits")

    def run(self, model, folder, **where):
        outcomes = map_exposures(
            model, [folder / f"{number}.fits" for number in range(3)], 2, 4, (10, 10), (2, 2),
            thresholds=None, out_dir=folder / "out", progress=False, **where,
        )  # fmt: skip
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        results = []
        for outcome in outcomes:
            with fits.open(outcome.output, memmap=False) as hdus:
                results += [np.array(hdu.data.tolist()) for hdu in hdus[1:]]
        return results


KINDS = {"strips": Strips(), "rows": Rows(), "exposures": Exposures()}


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
