"""From finished strips to complete outputs, whose data are those that were computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import add_data_sums, row_ranges
from morpheus_core.pipeline.job import Job
from morpheus_core.results.fits_outputs import FitsOutputs, allocate_files
from morpheus_core.results.outputs import Product, by_file, part_path
from morpheus_core.results.verification import Difference, differences
from morpheus_core.storage.file_systems import is_shared
from morpheus_core.storage.names import comes_true
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import Entry, attempt_path, attempts, lines_of, read_journal
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.rows import RowsLayout, copy_rows, sums_of_rows
from morpheus_core.workspace.stitch import Seam, SeamLayout, stitch
from morpheus_core.workspace.strip import is_finished, own_rows

logger = logging.getLogger("morpheus_core")

#: How often outputs are written before an error; what a file system does not keep twice is lost.
TRIES = 2
#: Strips that are copied at a time, by threads: the system copies while they hold no lock.
COPIES = 4


@dataclass(frozen=True)
class Completion:
    """The last part of a run, of which all strips are finished.

    Attributes
    ----------
    workspace : Workspace
        The run's folders.
    plan : Plan
        The run.
    job : Job
        What was computed.
    products : sequence of Product
        The outputs, which are complete under their temporary names afterwards.
    """

    workspace: Workspace
    plan: Plan
    job: Job
    products: Sequence[Product]

    def run(self) -> list[int]:
        """Fill in what the outputs lack, and enter their checksums.

        Returns
        -------
        list of int
            The strips whose files do not hold what was computed; the outputs are not complete
            then.

        Raises
        ------
        OutputError
            If what was written reads back otherwise, again and again.
        """
        if not self.plan.apart:
            return self._write()
        for _ in range(TRIES):
            damaged = self._write_anew()
            if damaged:
                return damaged
            found = list(self._differences())
            if not found:
                return []
            damaged = self._damaged()
            if damaged:
                return damaged
            logger.warning("%s; the outputs are written again", found[0])
        raise OutputError(
            f"what is read back is not what was written: {found[0]}; the strips are whole: pass "
            f"resume=True to write the outputs again"
        )

    def _write_anew(self) -> list[int]:
        """Write outputs from the files of strips, and return the strips that lack rows."""

        def lacking() -> list[int]:
            self._make_files()
            return self._write()

        return self._at_last(lacking)

    def _damaged(self) -> list[int]:
        """Return the strips whose files read otherwise than they were computed."""

        def is_right(index: int) -> bool:
            path, layout, entry = self._rows_of(index)
            return sums_of_rows(path, layout, entry) == entry.data_sums[:-1]

        return self._at_last(lambda: self._all_but(is_right))

    def _at_last(self, wrong: Callable[[], list[int]]) -> list[int]:
        """Return the strips with which something is wrong when this machine must have seen all."""
        found: list[int] = []

        def is_right() -> bool:
            found[:] = wrong()
            return not found

        directory = self.workspace.directory
        comes_true(is_right, f"all rows of the strips in {directory}", directory)
        return found

    def _make_files(self) -> None:
        """Make the outputs anew: what another machine has written to must not be written to."""
        directory = self.workspace.directory
        for product in self.products:
            part_path(product, directory).unlink(missing_ok=True)
        allocate_files(self.products, directory, self.plan.run, reserve=False)

    def _write(self) -> list[int]:
        """Write what the outputs lack, and their checksums unless strips are damaged."""
        strips, directory = self.plan.strips, self.workspace.directory
        with FitsOutputs(self.products, directory, self.plan.run) as outputs:
            damaged = set(self._copy(outputs)) if self.plan.apart else set()
            stitched, torn = stitch(self.job, strips, self._open_seam, outputs)
            damaged.update(torn)
            if not damaged:
                outputs.seal(self._row_sums(stitched))
        return sorted(damaged)

    def _copy(self, outputs: FitsOutputs) -> list[int]:
        """Copy the rows of each strip, and return the strips that lack some."""
        return self._all_but(lambda index: copy_rows(*self._rows_of(index), outputs))

    def _rows_of(self, index: int) -> tuple[Path, RowsLayout, Entry]:
        """Return where the rows of a strip are, and who has written them."""
        layout = RowsLayout(self.products, own_rows(self.job, self.plan.strips[index]))
        return self.workspace.rows_path(index), layout, self._entries[index]

    def _all_but(self, is_right: Callable[[int], bool]) -> list[int]:
        """Return the strips of which something is not so."""
        indices = range(len(self.plan.strips))
        with ThreadPoolExecutor(COPIES) as threads:
            right = list(threads.map(is_right, indices))
        return [index for index in indices if not right[index]]

    def _open_seam(self, index: int) -> Seam:
        path, strip = self.workspace.seam_path(index), self.plan.strips[index]
        return Seam(path, SeamLayout(self.job, strip), self._entries[index])

    @cached_property
    def _entries(self) -> list[Entry]:
        """What the journals say, of strips that are all finished.

        Raises
        ------
        OutputError
            If this machine does not get to see that.
        """
        return [self._entry(index) for index in range(len(self.plan.strips))]

    def _entry(self, index: int) -> Entry:
        path, strip = self.workspace.journal_path(index), self.plan.strips[index]
        found: list[Entry | None] = [None]

        def is_seen() -> bool:
            found[0] = read_journal(path, self.plan.run)
            return is_finished(self.job, strip, found[0])

        if not comes_true(is_seen, f"the end of {path}", path.parent) or found[0] is None:
            raise OutputError(
                f"this machine does not see the end of {path}, which another one has written; pass "
                f"resume=True to try again"
            )
        return found[0]

    def _row_sums(self, stitched: Iterable[tuple[int, list[int]]]) -> list[list[int]]:
        """Return the data sum of each range of rows of each product, as they were computed."""
        ranges = row_ranges(self.job.grid.output_shape[0])
        sums = [[0] * len(self.products) for _ in ranges]
        for row, data_sums in stitched:
            index = next(k for k, (first, stop) in enumerate(ranges) if first <= row < stop)
            sums[index] = add_data_sums(sums[index], data_sums)
        for index, strip in enumerate(self.plan.strips):
            rows = own_rows(self.job, strip)
            if not rows:
                continue
            before = self._sums_before(index, rows)
            for k, (first, stop) in enumerate(ranges):
                if first < rows.stop and stop > rows.start:
                    start, end = before[max(first, rows.start)], before[min(stop, rows.stop)]
                    sums[k] = [c + b - a for a, b, c in zip(start, end, sums[k], strict=True)]
        return [list(of_product) for of_product in zip(*sums, strict=True)]

    def _sums_before(self, index: int, rows: range) -> dict[int, list[int]]:
        """Return, for rows of a strip, the data sums of its own rows before each of them."""
        entry, path = self._entries[index], self.workspace.journal_path(index)
        before = {rows.start: [0] * len(self.products)}
        for segment in entry.segments:
            for kind, row, *values in lines_of(attempt_path(path, segment.attempt).read_bytes()):
                if kind in ("written", "synced") and row <= segment.stop:
                    before[row] = values[0][:-1]
        return {**before, rows.stop: entry.data_sums[:-1]}

    def _differences(self) -> Iterable[Difference]:
        """Yield what the outputs have otherwise than was computed."""
        directory = self.workspace.directory
        for members in by_file(self.products):
            yield from differences(part_path(members[0], directory), is_shared(directory))


def forget_strips(workspace: Workspace, plan: Plan, indices: Iterable[int]) -> None:
    """Forget that strips were run, so that they are run again."""
    for index in indices:
        path = workspace.journal_path(index)
        for attempt in attempts(path, plan.run):
            attempt_path(path, attempt).unlink(missing_ok=True)
