#!/usr/bin/env bash
# wcslib (astropy 8.0.2) takes the polynomials of TPV to be of what PC makes of pixels, before CDELT: the
# same linear terms give other sky positions as PC with CDELT than as CD, by degrees.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "astropy==${ASTROPY:-8.0.2}"
"$folder/venv/bin/python" - <<'end'
import astropy
from astropy.io import fits
from astropy.wcs import WCS, _wcs

shared = {
    "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CRVAL1": 53.1, "CRVAL2": -27.8,
    "CRPIX1": 20.0, "CRPIX2": 11.0, "PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 0.1, "PV2_4": 0.1,
}
scale = 1e-5
matrix = fits.Header({**shared, "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale})
scaled = fits.Header({**shared, "PC1_1": 1.0, "PC2_2": 1.0, "CDELT1": -scale, "CDELT2": scale})
print("astropy", astropy.__version__, "wcslib", _wcs.WCSLIB_VERSION)
positions = [WCS(header).all_pix2world([[120.0, 211.0]], 1)[0] for header in (matrix, scaled)]
print("with CD          ", positions[0])
print("with PC and CDELT", positions[1])
apart = abs(positions[0] - positions[1]).max()
print(f"apart by {apart:.6f} degrees; the TPV convention says zero")
raise SystemExit(0 if apart > 1e-6 else 1)
end
