"""What an evaluation says: tables, and a figure of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, OutputError
from morpheus_core.evaluation import metrics
from morpheus_core.evaluation.counts import Counts
from morpheus_core.evaluation.strata import ALL
from morpheus_core.evaluation.tables import SUMS, with_formats, without_formats
from morpheus_core.extras import require_package
from morpheus_core.results.outputs import give_name, refuse_to_replace
from morpheus_core.results.table_files import part_of, table_format

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a result is; see :func:`morpheus_core.evaluate`.

    Attributes
    ----------
    table : Table
        The metrics, a row for each class and stratum, or for each stratum of objects. Columns are
        printed with four digits and hold all.
    """

    table: Table

    def plot(self) -> Figure:
        """Draw the completeness and the purity of objects.

        Returns
        -------
        Figure
            Of matplotlib; ``figure.savefig("objects.png")`` writes it.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        """
        require_package("matplotlib", "plot", "plot")
        from morpheus_core.evaluation.figures import draw_objects

        return draw_objects(self.table)

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the table, with all digits, however it is printed.

        Parameters
        ----------
        path : path
            .csv, .ecsv, .fits, .hdf5, .h5, .parquet, .xml, .vot or .votable.
        overwrite : bool, default False
            Replace the file.

        Raises
        ------
        InputError
            If the name of the file promises no format of tables.
        MissingPackageError
            If the format needs a package that is not installed.
        OutputError
            If the file exists or cannot be written.
        """
        place = checks.path("path", path)
        write = table_format(place, "path")
        refuse_to_replace([place], [], checks.flag("overwrite", overwrite))
        part = part_of(place)
        try:
            write(without_formats(self.table), part)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {place}: {error.strerror}") from error
        give_name(part, place, overwrite)


@dataclass(frozen=True, slots=True)
class PixelEvaluation(Evaluation):
    """How good the scores of pixels are; see :func:`morpheus_core.evaluate`.

    Attributes
    ----------
    table : Table
        The metrics, a row for each class and stratum.
    class_names, strata : tuple of str
        What classes and strata are called.
    has_labels : bool
        Whether each pixel is of one class.
    counts : Counts
        Of which all metrics are made.
    """

    class_names: tuple[str, ...]
    strata: tuple[str, ...]
    has_labels: bool
    counts: Counts

    @property
    def overall(self) -> Table:
        """What is said of all classes together, a row for each stratum.

        ``accuracy`` is the share of pixels whose highest score is that of their class,
        ``calibration_error`` how far it is from their mean highest score, by ten intervals of that.
        Both are NaN where pixels may be of several classes. ``mean_iou`` is the mean of `iou` over
        the classes that have one, ``brier`` the sum of `brier` over classes.
        """
        from astropy.table import Table

        rows = []
        for name in (ALL, *self.strata):
            counts, of_classes = self._of(name), self.table[self.table["stratum"] == name]
            known = of_classes["iou"][~np.isnan(of_classes["iou"])]
            rows.append(
                {
                    "stratum": name,
                    "pixels": counts.scores[0].sum(),
                    "accuracy": float(metrics.ratio(counts.winners[1].sum(), counts.winners.sum())),
                    "mean_iou": float(np.mean(known)) if len(known) else np.nan,
                    "brier": float(of_classes["brier"].sum()),
                    "calibration_error": metrics.calibration_error(counts.winners),
                }
            )
        return with_formats(Table(rows))

    def confusion(self, stratum: str = ALL) -> Table:
        """Return how many pixels of each class, a row each, are taken for which, a column each.

        Parameters
        ----------
        stratum : str
            "all", or one of `strata`.

        Returns
        -------
        Table
            A column ``true``, and one for each class.

        Raises
        ------
        InputError
            If pixels may be of several classes.
        """
        from astropy.table import Table

        if not self.has_labels:
            raise InputError("confusion needs a truth of labels, got planes, one per class")
        table = Table(self._of(stratum).confusion, names=self.class_names)
        table.add_column(list(self.class_names), name="true", index=0)
        return with_formats(table, SUMS)

    def reliability(self, class_name: str, stratum: str = ALL) -> Table:
        """Return how many pixels with a score are of a class, by ten intervals of the score.

        Parameters
        ----------
        class_name : str
            The class.
        stratum : str
            "all", or one of `strata`.

        Returns
        -------
        Table
            Intervals ``low`` to ``high``, their ``pixels``, the mean ``score`` of these, and the
            ``share`` of them that is of the class.
        """
        from astropy.table import Table

        pixels, means, shares = metrics.reliability(self._of_class(class_name, stratum))
        # Not linspace, whose multiples of a rounded 0.1 are 0.30000000000000004 and the like.
        edges = np.arange(metrics.INTERVALS + 1) / metrics.INTERVALS
        columns = [edges[:-1], edges[1:], pixels, means, shares]
        return with_formats(Table(columns, names=["low", "high", "pixels", "score", "share"]))

    def roc(self, class_name: str, stratum: str = ALL) -> Table:
        """Return the receiver operating characteristic of a class.

        Parameters
        ----------
        class_name : str
            The class.
        stratum : str
            "all", or one of `strata`.

        Returns
        -------
        Table
            By ``threshold``, falling: the shares of what is not, and of what is, of the class that
            have at least that score, ``false_positives`` and ``true_positives``.
        """
        from astropy.table import Table

        false, true = metrics.roc(self._of_class(class_name, stratum))
        columns = [metrics.SCORES[::-1], false[::-1], true[::-1]]
        return with_formats(
            Table(columns, names=["threshold", "false_positives", "true_positives"])
        )

    def plot(self) -> Figure:
        """Draw the ROC curve and the reliability of each class, and the confusion matrix.

        Returns
        -------
        Figure
            Of matplotlib; ``figure.savefig("evaluation.png")`` writes it. Without labels the third
            panel shows the intersection over union of each class.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        """
        require_package("matplotlib", "plot", "plot")
        from morpheus_core.evaluation.figures import draw_pixels

        return draw_pixels(self)

    def _of(self, stratum: str) -> Counts:
        names = (ALL, *self.strata)
        place = names.index(checks.one_of("stratum", stratum, names))
        return self.counts.of(place - 1 if place else None)

    def _of_class(self, class_name: str, stratum: str) -> NDArray[Any]:
        names = self.class_names
        index = names.index(checks.one_of("class_name", class_name, names))
        of_class: NDArray[Any] = self._of(stratum).scores[index]
        return of_class


def pixel_table(
    counts: Counts, class_names: Sequence[str], strata: Sequence[str], has_labels: bool
) -> Table:
    """Return the metrics of pixels, a row for each class and stratum."""
    from astropy.table import Table

    rows = []
    for place, name in enumerate((ALL, *strata)):
        part = counts.of(place - 1 if place else None)
        decided = (
            metrics.decisions(part.confusion)
            if has_labels
            else metrics.decisions_at_half(part.scores)
        )
        for index, class_name in enumerate(class_names):
            right, wrong, missed = (float(values[index]) for values in decided)
            scores = part.scores[index]
            rows.append(
                {
                    "stratum": name,
                    "class": class_name,
                    "pixels": scores[1].sum(),
                    "precision": float(metrics.ratio(right, right + wrong)),
                    "recall": float(metrics.ratio(right, right + missed)),
                    "iou": float(metrics.ratio(right, right + wrong + missed)),
                    "dice": float(metrics.ratio(2 * right, 2 * right + wrong + missed)),
                    "roc_area": metrics.area_under_roc(scores),
                    "average_precision": metrics.average_precision(scores),
                    "brier": metrics.brier(scores),
                    "calibration_error": metrics.calibration_error(scores),
                }
            )
    return with_formats(Table(rows))
