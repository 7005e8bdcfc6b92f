"""What a job produces: names, shapes and headers of the outputs."""

from __future__ import annotations

from astropy.io import fits

from morpheus_core.aggregators import AGGREGATION_METHODS
from morpheus_core.headers import celestial_cards, product_header
from morpheus_core.outputs import Product
from morpheus_core.pipeline import Job

#: Every name that an output of any job can have.
OUTPUT_NAMES = ("output", *(f"output_{method}" for method in AGGREGATION_METHODS), "n")


def products_of(job: Job, source: fits.Header | None) -> list[Product]:
    """Return one output per aggregate method, then n.

    Parameters
    ----------
    job : Job
        What is computed.
    source : Header or None
        The header that the outputs inherit their sky position from.
    """
    shape = job.grid.output_shape
    sky = celestial_cards(source, job.grid.dilation)
    products = []
    for method, aggregator in zip(job.methods, job.aggregators, strict=True):
        name = "output" if len(job.methods) == 1 else f"output_{method}"
        result_shape = (*shape, *aggregator.result_shape(job.n_classes))
        header = product_header(sky, aggregator.axes)
        products.append(Product(name, result_shape, header))
    return [*products, Product("n", shape, product_header(sky, {}))]
