"""A finished run of which only products were kept, for those who need results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Rows
from morpheus_core.results.choices import OF_CLASSES
from morpheus_core.results.finished import BLOCK_BYTES, Output, Outputs
from morpheus_core.results.planes import STATISTICS, extension_names
from morpheus_core.results.stored_images import open_images

#: Which products the results of a method can be put together of, in their order.
PARTS = {
    AGGREGATION_METHODS.MEAN_VAR: ("mean", "variance"),
    AGGREGATION_METHODS.RANK_VOTE: ("votes",),
}


class ProductRun(Outputs):
    """The products of a run on disk.

    Parameters
    ----------
    path : Path
        Their file.
    scattered : bool
        Whether rows will be read that are far apart.
    scaled : bool
        Whether integers become the real numbers that they stand for.
    """

    def __init__(self, path: Path, scattered: bool = False, scaled: bool = True) -> None:
        self.directory, self.paths = path.parent, [path]
        with ExitStack() as opened:
            images = open_images(path, opened, scattered, scaled)
            #: The images, by their names.
            self.images = {
                name: Output(f"{path}[{name}]", image.shape, image.header, image.rows)
                for name, image in ((image.header["EXTNAME"], image) for image in images)
            }
            self._opened = opened.pop_all()
        first = next(iter(self.images.values()))
        self.n = self.images.get("N") or Output("n", first.shape, first.header, Lacking(self, "n"))
        self.results = Composed(self)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    @property
    def class_names(self) -> list[str]:
        """What the classes are called."""
        header = self.n.header
        keys = takewhile(header.__contains__, (f"CLASS{index}" for index in count()))
        return [header[key] for key in keys]

    @property
    def methods(self) -> list[AGGREGATION_METHODS]:
        """What was made of the predictions, as far as products tell."""
        found = {method_of(image.header["PRODUCT"]) for image in self.images.values()}
        return [method for method in AGGREGATION_METHODS if method in found]

    def plane(self, product: str, index: int) -> Output:
        """Return the image of a class.

        Raises
        ------
        InputError
            If that product was not kept.
        """
        name = self._image_names(product)[index]
        if name not in self.images:
            raise self.lacks([f"{product}:{self.class_names[index]}"])
        return self.images[name]

    def need(self, *products: str) -> None:
        """Make sure that products, of all classes if they have one each, were kept.

        Raises
        ------
        InputError
            If some were not; it names all of these.
        """
        missing = [name for product in products for name in self._missing(product)]
        if missing:
            raise self.lacks(missing)

    def lacks(self, products: Sequence[str]) -> InputError:
        """Return the error for products that were not kept."""
        kept = ", ".join(dict.fromkeys(one.header["PRODUCT"] for one in self.images.values()))
        return InputError(
            f"these products are needed: {', '.join(map(repr, products))}, and {self.paths[0]} "
            f"holds only {kept}; run again with these among products="
        )

    def _image_names(self, product: str) -> list[str]:
        """Return what the images of a product are called, one per class if it has so many."""
        if product == "n":
            return ["N"]
        statistics = STATISTICS[OF_CLASSES[product]]
        suffix = statistics[PARTS[OF_CLASSES[product]].index(product)]
        return [f"{name}_{suffix}" for name in extension_names(self.class_names)]

    def _missing(self, product: str) -> list[str]:
        """Return what of a product was not kept: all of it, or that of some classes."""
        absent = [name not in self.images for name in self._image_names(product)]
        if all(absent):
            return [product]
        names = zip(self.class_names, absent, strict=True) if any(absent) else ()
        return [f"{product}:{name}" for name, is_absent in names if is_absent]

    def blocks(self) -> Iterator[Any]:
        """Yield all rows, a few at a time; each image is read where it is asked for."""
        height, width = self.shape
        step = max(1, BLOCK_BYTES // (8 * width))
        for first in range(0, height, step):
            yield ProductBlock(self, first, min(first + step, height))


@dataclass(frozen=True, slots=True)
class ProductBlock(Rows):
    """Some rows of products.

    Attributes
    ----------
    run : ProductRun
        Of which run.
    first, stop : int
        Which rows.
    """

    run: ProductRun
    first: int
    stop: int

    def share(self, method: AGGREGATION_METHODS, index: int) -> NDArray[Any]:
        """Return the mean or the share of votes of one class, NaN where there is none."""
        plane = self.run.plane(PARTS[method][0], index)
        share = plane.read(self.first, self.stop)
        return np.where(self.n > 0, share, np.nan) if "N" in self.run.images else share

    def shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        """Return the mean or the share of votes of each class, NaN where there is none."""
        self.run.need(PARTS[method][0])
        classes = range(len(self.run.class_names))
        return np.stack([self.share(method, index) for index in classes], axis=-1)

    @property
    def n(self) -> NDArray[Any]:
        """Number of predictions."""
        return self.run.n.read(self.first, self.stop)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Rows of a product that was not kept."""

    run: ProductRun
    product: str

    def __getitem__(self, rows: slice) -> Any:
        raise self.run.lacks([self.product])


class Composed(dict[AGGREGATION_METHODS, Output]):
    """Results of methods, put together of the images of their classes."""

    def __init__(self, run: ProductRun) -> None:
        self._run = run

    def __missing__(self, method: AGGREGATION_METHODS) -> Output:
        """Return the result of a method, which is read together with n.

        Raises
        ------
        InputError
            If one of their products was not kept.
        """
        run, names = self._run, self._run.class_names
        run.need(*PARTS[method], "n")
        parts = [[run.plane(part, k) for part in PARTS[method]] for k in range(len(names))]
        shape = (*run.shape, len(names), *([2] if len(PARTS[method]) == 2 else []))
        return Output(f"results of {run.paths[0]}", shape, run.n.header, Stacked(parts))


@dataclass(frozen=True, slots=True)
class Stacked:
    """Rows of several images as those of one result.

    Attributes
    ----------
    parts : list of list of Output
        The images of each class.
    """

    parts: list[list[Output]]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        of_classes = [
            np.stack([part.read(rows.start, rows.stop) for part in parts], axis=-1)
            for parts in self.parts
        ]
        result = np.stack(of_classes, axis=2)
        return result if result.shape[-1] == 2 and len(self.parts[0]) == 2 else result[..., 0]


def method_of(product: str) -> AGGREGATION_METHODS | None:
    """Return the method of a product by its full name."""
    kind, _, detail = product.partition(":")
    if kind in OF_CLASSES:
        return OF_CLASSES[kind]
    return None if kind == "n" else AGGREGATION_METHODS(detail)
