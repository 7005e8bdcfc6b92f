#!/usr/bin/env bash
# CFITSIO (fitsio 1.4.2) reads no tile-compressed image of four axes with fits_read_pix, which is what a
# program calls for a whole image ("only 1D, 2D, or 3D images are currently supported"); by fits_read_subset it does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "astropy==${ASTROPY:-8.0.2}" "fitsio==${FITSIO:-1.4.2}"
"$folder/venv/bin/python" - "$folder/cube.fits.fz" <<'end'
import sys

import astropy
import fitsio
import numpy as np
from astropy.io import fits

cube = np.arange(20 * 30 * 3 * 2, dtype=np.int32).reshape(20, 30, 3, 2)
image = fits.CompImageHDU(cube, compression_type="GZIP_2", tile_shape=(1, 30, 3, 2))
fits.HDUList([fits.PrimaryHDU(), image]).writeto(sys.argv[1])
print("astropy", astropy.__version__, "fitsio", fitsio.__version__)
print("astropy reads it:", bool((fits.getdata(sys.argv[1], 1) == cube).all()))
with fitsio.FITS(sys.argv[1]) as file:
    print("fitsio by slices:", bool((file[1][:, :, :, :] == cube).all()))
    try:
        file[1].read()
    except OSError as error:
        told = str(error).strip().splitlines()[-1]
    else:
        told = "read"
print("fitsio as a whole:", told)
raise SystemExit(0 if "only 1D, 2D, or 3D" in told else 1)
end
