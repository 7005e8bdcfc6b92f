#!/usr/bin/env bash
# astropy (8.0.2) writes TNULL of masked unsigned columns as the value, not as what is stored (value - TZERO):
# STILTS and others show the missing number, and take the number that TNULL means for missing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "astropy==${ASTROPY:-8.0.2}"
"$folder/venv/bin/python" - "$folder/table.fits" <<'end'
import sys

import astropy
import numpy as np
from astropy.io import fits
from astropy.table import Table

values = np.ma.array(np.array([65535, 32768, 7], np.uint16), mask=[False, False, True], fill_value=0)
Table({"n": values}).write(sys.argv[1])
header = fits.getheader(sys.argv[1], 1)
with fits.open(sys.argv[1]) as file:
    start = file.fileinfo(1)["datLoc"]
stored = np.fromfile(sys.argv[1], ">i2", count=3, offset=start)
print("astropy", astropy.__version__)
print("written: 65535, 32768, missing; TNULL", header["TNULL1"], "TZERO", header["TZERO1"])
print("stored: ", stored.tolist())
missing = (stored == header["TNULL1"]).tolist()
print("missing by the FITS standard, section 7.3.2 (TNULL is of the stored value):", missing)
raise SystemExit(0 if missing == [False, True, False] else 1)
end
