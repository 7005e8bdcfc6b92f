"""How fast windows are cut for a catalogue, beside the direct mode of Cutana 0.4.

``python benchmarks/cutana.py PYTHON_WITH_CUTANA``, an environment of its own (``pip install
cutana==0.4.0``). One tile of 10,000 × 10,000 pixels, 64 × 64 windows around sky positions, one
thread, processor time of a whole call; files are opened and positions become pixels in either.
The two do not do the same: Cutana keeps all cut-outs and makes a dictionary of each, with a WCS
where its format is FITS; here a model is asked, which costs next to nothing, and a table is made of
what it says. Both are told to leave pixels as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

SIDE, WINDOW, REPEATS = 10_000, 64, 3
CUTANA_ROWS, OWN_ROWS = 2_000, 200_000

TIMED = """
import json, resource, sys
def seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
tile, catalog, repeats, window = json.loads(sys.argv[1])
"""
CUTANA = (
    TIMED
    + """
output_format = FORMAT
import pandas
from cutana import create_cutouts_direct, get_default_config
rows = pandas.read_csv(catalog)
rows["SourceID"] = rows["id"].astype(str)
rows["RA"], rows["Dec"], rows["diameter_pixel"] = rows["ra"], rows["dec"], window
rows["fits_file_paths"] = str([tile])
config = get_default_config()
config.do_only_cutout_extraction, config.apply_flux_conversion = True, False
config.target_resolution, config.write_to_disk = window, False
config.output_format = output_format
config.selected_extensions = [{"name": "PRIMARY", "ext": "PRIMARY"}]
for _ in range(repeats):
    start = seconds()
    (found,) = create_cutouts_direct(rows, config, max_workers=1)
    taken = seconds() - start
    assert len(found["cutouts"]) == len(rows), found["cutouts"].shape
    assert tuple(found["cutouts"][0].shape[:2]) == (window, window), found["cutouts"][0].shape
    print(len(rows) / taken, flush=True)
"""
)
OWN = (
    TIMED
    + """
from astropy.table import Table
from morpheus_core import predict_catalog
rows = Table.read(catalog)
for _ in range(repeats):
    start = seconds()
    found = predict_catalog(
        lambda batch: batch[0][:, window // 2, window // 2, :], tile, rows, 1, 256,
        (window, window), ra="ra", dec="dec", progress=False, prefetch=0,
    )
    taken = seconds() - start
    assert len(found) == len(rows)
    print(len(rows) / taken, flush=True)
"""
)


def write_tile(path: Path) -> WCS:
    """Write noise with a WCS, and return that."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [SIDE / 2, SIDE / 2], [-3e-5, 3e-5]
    pixels = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    fits.PrimaryHDU(pixels, wcs.to_header()).writeto(path)
    return wcs


def write_catalog(path: Path, wcs: WCS, count: int) -> None:
    """Write positions whose windows lie inside the tile."""
    pixels = np.random.default_rng(1).uniform(WINDOW, SIDE - WINDOW, (count, 2))
    ra, dec = wcs.all_pix2world(pixels, 0).T
    Table({"id": np.arange(count), "ra": ra, "dec": dec}).write(path)


def rates(python: str, code: str, tile: Path, catalog: Path) -> list[float]:
    """Return windows per second of processor time, of each call."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    arguments = json.dumps([str(tile), str(catalog), REPEATS, WINDOW])
    run = subprocess.run(
        [python, "-W", "ignore", "-c", code, arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    )
    return [float(line) for line in run.stdout.split()]


def main(python: str) -> None:
    """Print the best rate of each, and their ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        tile, few, many = (Path(scratch) / name for name in ("tile.fits", "few.csv", "many.csv"))
        wcs = write_tile(tile)
        write_catalog(few, wcs, CUTANA_ROWS)
        write_catalog(many, wcs, OWN_ROWS)
        own = max(rates(sys.executable, OWN, tile, many))
        print(f"morpheus_core       {own:9,.0f} windows per second of processor time", flush=True)
        for output_format, does in (("zarr", "without WCS"), ("fits", "with WCS")):
            code = CUTANA.replace("FORMAT", repr(output_format))
            other = max(rates(python, code, tile, few))
            print(f"Cutana {does:12} {other:9,.0f}: 1/{own / other:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
