"""The numbers of the page on costs, as reST that it includes."""

from __future__ import annotations

from collections.abc import Sequence

from cost_measurements import Measurements
from cost_projection import (
    Cluster,
    Fit,
    Mosaic,
    Projection,
    best,
    fitted,
    most_strips,
    project,
    strips_of,
)

GPUS = (8, 64, 512)
STRIDES = (1, 10)
#: Windows per second of one GPU.
RATES = (2_000, 10_000, 50_000)
#: Bytes per second of the shared file system.
BANDWIDTHS = (1e9, 1e10)
RATE, BANDWIDTH = RATES[1], BANDWIDTHS[1]


def tables(measured: Measurements) -> str:
    """Return substitutions of single numbers, and the tables."""
    fit = fitted(measured.samples)
    mosaics = {stride: Mosaic(stride) for stride in STRIDES}
    parts = [
        ".. Written by benchmarks/cost_model.py; do not edit.\n",
        substitutions(fit, measured),
        geometry(mosaics, measured),
        *(parts_table(mosaic, fit, measured) for mosaic in mosaics.values()),
        totals_table(mosaics, fit, measured),
    ]
    return "\n".join(parts)


def substitutions(fit: Fit, measured: Measurements) -> str:
    """Return the measured numbers under names that the page uses."""
    spread = max(
        abs(fit.seconds(s.workers, s.windows, s.strips) / s.seconds - 1) for s in measured.samples
    )
    values = {
        "cost_machine": measured.machine,
        "cost_begin": f"{fit.begin:.2f} s",
        "cost_start": f"{measured.start_seconds:.1f} s",
        "cost_rate": f"{fit.rate:.0f}",
        "cost_per_strip": f"{1000 * fit.per_strip:.0f} ms",
        "cost_scheduling": f"{1000 * fit.scheduling:.0f} ms",
        "cost_misfit": f"{100 * spread:.0f} %",
        "cost_ceiling_1": f"{measured.ceilings['1']:,.0f}",
        "cost_ceiling_10": f"{measured.ceilings['10']:,.0f}",
        "cost_stitch": f"{measured.stitch_bytes_per_second / 1e6:.0f} MB/s",
    }
    return replacements(values)


def geometry(mosaics: dict[int, Mosaic], measured: Measurements) -> str:
    """Return what the geometry says of strips, under names that the page uses."""
    values = {}
    for stride, mosaic in mosaics.items():
        strip = strips_of(mosaic, GPUS[-1])[1]
        values[f"cost_seam_{stride}"] = as_size(mosaic.seam_bytes([strip]))
        values[f"cost_input_{stride}"] = as_size(mosaic.input_bytes([strip]))
        most = most_strips(mosaic, RATE, measured)
        values[f"cost_most_{stride}"] = f"{most:.0f}"
    outputs = mosaics[STRIDES[0]].output_bytes
    values["cost_output"] = as_size(outputs / GPUS[-1])
    values["cost_outputs"] = as_size(outputs)
    return replacements(values)


def replacements(values: dict[str, str]) -> str:
    """Return substitutions in reST."""
    return "".join(f".. |{name}| replace:: {value}\n" for name, value in values.items())


def parts_table(mosaic: Mosaic, fit: Fit, measured: Measurements) -> str:
    """Return where the time goes, by default and with the best number of strips."""
    rows = []
    for gpus in GPUS:
        cluster = Cluster(gpus, RATE, BANDWIDTH)
        usual = project(mosaic, cluster, mosaic.default_strips(gpus), fit, measured)
        chosen = best(mosaic, cluster, fit, measured)
        rows.append([f"{gpus}", f"{usual.strips} (default)", *cells(usual)])
        rows.append([f"{gpus}", f"{chosen.strips} (best)", *cells(chosen)])
    names = ["GPUs", "strips", "seams", "GPUs alone", "computing", "files", "stitching", "total"]
    gpu, files = f"{RATE:,} windows/s per GPU", f"file system of {as_rate(BANDWIDTH)}"
    return list_table(f"Stride {mosaic.stride}, {gpu}, {files}", names, rows)


def cells(one: Projection) -> list[str]:
    """Return the numbers of a projection as text."""
    seconds = (one.predicting, one.computing, one.files, one.stitching, one.total)
    return [as_size(one.seam_bytes), *map(as_time, seconds)]


def totals_table(mosaics: dict[int, Mosaic], fit: Fit, measured: Measurements) -> str:
    """Return the total for other GPUs and file systems, each with the best number of strips."""
    rows = []
    for stride, mosaic in mosaics.items():
        for rate in RATES:
            for bandwidth in BANDWIDTHS:
                row = [f"{stride}", f"{rate:,}", as_rate(bandwidth)]
                for gpus in GPUS:
                    one = best(mosaic, Cluster(gpus, rate, bandwidth), fit, measured)
                    row.append(f"{as_time(one.total)}, {one.strips} strips ({one.bottleneck})")
                rows.append(row)
    names = ["stride", "windows/s per GPU", "file system", *(f"{gpus} GPUs" for gpus in GPUS)]
    return list_table("Total time with the best number of strips, and what is longest", names, rows)


def list_table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in reST."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in (names, *rows):
        lines += [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def as_time(seconds: float) -> str:
    """Return a time in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def as_size(size: float) -> str:
    """Return bytes as text."""
    return f"{size / 1e9:,.{0 if size >= 1e10 else 1}f} GB"


def as_rate(bandwidth: float) -> str:
    """Return bytes per second as text."""
    return f"{bandwidth / 1e9:.0f} GB/s"
