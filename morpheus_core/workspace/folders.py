"""The folders inside of `out_dir` in which a run works: "0", "1", "2", … one per strip.

Folder "0" holds what is common to all as well: the plan, the update map, array inputs and the
state. Every folder holds its strip's journal and seam.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.images.stack import ImageStack, reopen, stored_paths
from morpheus_core.parallel.folders import LOG, Folders, clear, is_free, is_remainder
from morpheus_core.results.outputs import Product, part_path
from morpheus_core.storage.names import is_there, names_in
from morpheus_core.storage.whole_files import write_text
from morpheus_core.workspace.plan import Plan

#: How many places a message names.
FEW = 3
#: What can be noted of a run, as empty files.
FACTS = ("overwrite", "ready")


class Workspace(Folders):
    """The folders of one run.

    Parameters
    ----------
    directory : Path
        The user's `out_dir`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # The plan is renamed when the strips are stitched, and is the last thing to be removed.
        self._plan_path = self._shared / "run.json"
        self._stitched_path = self._shared / "stitched.json"
        self._inputs_path = self._shared / "inputs.json"
        self._products_path = self._shared / "outputs.json"

    def journal_path(self, index: int) -> Path:
        """Return where a strip's finished rows are recorded."""
        return self.folder(index) / "journal"

    def seam_path(self, index: int) -> Path:
        """Return where a strip's part of shared rows is, in a file of each attempt."""
        return self.folder(index) / "seam"

    def rows_path(self, index: int) -> Path:
        """Return where rows of a strip are, in a file of each attempt, until all are complete."""
        return self.folder(index) / "rows"

    def holds_a_run(self) -> bool:
        """Say whether a run was begun here and not finished."""
        names = names_in(self._shared)
        return not names.isdisjoint((self._plan_path.name, self._stitched_path.name))

    def is_stitched(self) -> bool:
        """Say whether the outputs are complete, and perhaps have their names."""
        return is_there(self._stitched_path)

    def mark_stitched(self) -> None:
        """Note that the outputs are complete."""
        self._plan_path.replace(self._stitched_path)

    def load(self) -> Plan:
        """Return the plan of the run that was begun here.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        path = self._stitched_path if self.is_stitched() else self._plan_path
        try:
            return Plan.from_json(path.read_text())
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{path} is damaged or of another version, so that run cannot be "
                f"continued; begin a new one in another out_dir"
            ) from error

    def refuse_what_is_in_the_way(self, parts: Sequence[Path], n_strips: int) -> None:
        """Raise if files have a name that this run needs and are of another one.

        Parameters
        ----------
        parts : sequence of Path
            Where outputs grow.
        n_strips : int
            How many folders are needed.

        Raises
        ------
        OutputError
            They are never deleted: they may be the finished rows of a long run.
        """
        names = names_in(self.directory)
        found = [path for path in parts if path.name in names]
        folders = [self.folder(index) for index in range(n_strips)]
        found += [path for path in folders if path.name in names and not is_free(path)]
        if found:
            places = ", ".join(map(str, found[:FEW]))
            places += f" and {len(found) - FEW} more" if len(found) > FEW else ""
            raise OutputError(
                f"a new run needs the place of {places}, which may be of a run that is going on or "
                f"was interrupted; pass resume=True to continue that one, or pass another out_dir"
            )

    def create(self, plan: Plan, update_map: NDArray[np.float64], overwrite: bool) -> None:
        """Make the folders; from its first moment the run can be found by its plan."""
        for index, strip in enumerate(plan.strips):
            self.folder(index).mkdir(mode=0o700, exist_ok=True)
            self.folder(index).chmod(0o700)
            for path in self.folder(index).iterdir():
                if is_remainder(path.name) and path.name != LOG:
                    path.unlink(missing_ok=True)
            if index == 0:
                write_text(self._plan_path, plan.to_json())
            job = {"run": plan.run, "window_rows": list(strip)}
            write_text(self.folder(index) / "job.json", json.dumps(job))
            # Of a file that was not there, network file systems may say so long after it is.
            self.journal_path(index).touch(mode=0o600)
        np.save(self._shared / "update_map.npy", update_map)
        if overwrite:
            self.mark("overwrite")

    def check_folders(self, plan: Plan) -> None:
        """Raise if a folder is of another run than the plan.

        Raises
        ------
        OutputError
            What it holds is of other inputs or arguments.
        """
        for index in range(len(plan.strips)):
            if not self._belongs_to(plan, index):
                raise OutputError(f"{self.folder(index)} is of another run than {self._plan_path}")

    def update_map(self) -> NDArray[np.float64]:
        """Return the stored update map."""
        update_map: NDArray[np.float64] = np.load(self._shared / "update_map.npy")
        return update_map

    def store_inputs(self, stack: ImageStack) -> None:
        """Make sure that workers can open the images."""
        write_text(self._inputs_path, json.dumps(stack.store(self._shared)))

    def open_inputs(self) -> ImageStack:
        """Open the images, as a worker does."""
        return reopen(json.loads(self._inputs_path.read_text()))

    def input_paths(self) -> list[Path]:
        """Return the files that a worker has to open."""
        return stored_paths(json.loads(self._inputs_path.read_text()))

    def store_products(self, products: Sequence[Product]) -> None:
        """Make sure that others can make the outputs."""
        texts = [
            {
                "name": product.name,
                "shape": product.unit.shape,
                "dtype": product.unit.dtype.str,
                "cards": str(product.unit.cards.tostring()),  # to the letter
                "extension": product.unit.extension,
                "file": product.file,
                "product": product.product,
            }
            for product in products
        ]
        write_text(self._products_path, json.dumps(texts))

    def has_products(self) -> bool:
        """Say whether others can make the outputs."""
        return is_there(self._products_path)

    def products(self) -> list[Product]:
        """Return the outputs, as they were stored."""
        return [
            Product(
                text["name"],
                ImageUnit(
                    tuple(text["shape"]),
                    np.dtype(text["dtype"]),
                    fits.Header.fromstring(text["cards"]),
                    text["extension"],
                    summed=True,
                ),
                text["file"],
                text["product"],
            )
            for text in json.loads(self._products_path.read_text())
        ]

    def spread_path(self, index: int) -> Path:
        """Return where it is noted how many windows of a strip were spoilt by NaN."""
        return self.folder(index) / "spread"

    def note_spread(self, index: int, spoilt: int, windows: int) -> None:
        """Note how many of how many windows of a strip were spoilt by NaN."""
        write_text(self.spread_path(index), json.dumps([spoilt, windows]))

    def spread(self, plan: Plan) -> tuple[int, int]:
        """Return how many of how many windows were spoilt by NaN, of the strips that say so."""
        paths = filter(Path.exists, map(self.spread_path, range(len(plan.strips))))
        notes = [json.loads(path.read_text()) for path in paths]
        return sum(spoilt for spoilt, _ in notes), sum(windows for _, windows in notes)

    def mark(self, fact: str) -> None:
        """Note one of `FACTS`: replacing is allowed, all is ready to run."""
        (self._shared / fact).touch()

    def is_marked(self, fact: str) -> bool:
        """Say whether a fact was noted."""
        return is_there(self._shared / fact)

    def remove_rows(self, plan: Plan) -> None:
        """Remove the rows that strips have kept, once they are in outputs."""
        for index in range(len(plan.strips)):
            rows = self.rows_path(index)
            for path in rows.parent.glob(f"{rows.name}.*"):
                path.unlink(missing_ok=True)

    def remove(self, plan: Plan, keep_logs: bool = False) -> None:
        """Remove the folders of the run, or all but the logs in them; the plan is the last."""
        kept = {LOG} if keep_logs else set()
        for index in range(1, len(plan.strips)):
            if self._belongs_to(plan, index):
                clear(self.folder(index), kept)
        clear(self._shared, {*kept, self._plan_path.name, self._stitched_path.name})
        clear(self._shared, kept)

    def _belongs_to(self, plan: Plan, index: int) -> bool:
        """Say whether a folder is there and of this run, or empty."""
        folder = self.folder(index)
        try:
            job = json.loads((folder / "job.json").read_text())
        except FileNotFoundError:
            return folder.is_dir() and is_free(folder)
        except ValueError:
            return False
        return bool(job["run"] == plan.run)

    def discard(self, plan: Plan, products: Sequence[Product], keep_logs: bool = False) -> None:
        """Remove the run and its unfinished outputs."""
        # First of all it is no run to be resumed any more.
        (self._shared / "ready").unlink(missing_ok=True)
        for product in products:
            part_path(product, self.directory).unlink(missing_ok=True)
        self.remove(plan, keep_logs)
