#!/usr/bin/env bash
# reproject (0.21.0) makes the coarser tiles of a HiPS by averaging, also when the finest were made by a function
# that keeps values as they are: a map of classes 1 and 3 gets pixels of class 2, which it does not have.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "reproject==${REPROJECT:-0.21.0}" astropy==8.0.2
"$folder/venv/bin/python" - "$folder/hips" <<'end'
import sys
from functools import partial
from pathlib import Path

import numpy as np
import reproject
from astropy.io import fits
from astropy.wcs import WCS
from reproject.hips import reproject_to_hips

wcs = WCS(naxis=2)
wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (53.2, -27.8), (50.5, 50.5), (-1e-3, 1e-3)
rows, columns = np.indices((100, 100)) // 20
classes = np.where((rows + columns) % 2, 1, 3).astype(np.uint8)
nearest = partial(reproject.reproject_interp, order="nearest-neighbor")
reproject_to_hips(
    (classes, wcs), coord_system_out="equatorial", reproject_function=nearest,
    output_directory=sys.argv[1],
)
print("reproject", reproject.__version__, "- classes of the image:", np.unique(classes).tolist())
found = {}
for folder in Path(sys.argv[1]).glob("Norder*"):
    tiles = [fits.getdata(path) for path in folder.rglob("*.fits")]
    found[int(folder.name[6:])] = np.unique(np.concatenate([tile[np.isfinite(tile)] for tile in tiles]))
finest = max(found)
for order in sorted(found, reverse=True)[:3]:
    print(f"order {order}:", found[order].tolist())
as_told = found[finest].tolist() == [1, 3]
raise SystemExit(0 if as_told and 2 in found[finest - 1] else 1)
end
