#!/usr/bin/env bash
# astropy's WCS (8.0.2, wcslib 8) reads -1.0 of the valid card "CDELT1 = -1.0D-04" (section 4.2.4 of the FITS
# standard 4.0), where header["CDELT1"] is -0.0001: positions are ten thousand times too far apart, without a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "astropy==${ASTROPY:-8.0.2}"
"$folder/venv/bin/python" -W error - <<'end'
import astropy
from astropy.io import fits
from astropy.wcs import WCS

header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1.0, "CRPIX2": 1.0})
header.update({"CRVAL1": 10.0, "CRVAL2": 2.0, "CDELT2": 1e-4})
header.append(fits.Card.fromstring("CDELT1  =             -1.0D-04"))
header.cards["CDELT1"].verify("exception")
print("astropy", astropy.__version__)
print("the card: ", str(header.cards["CDELT1"]).strip())
print("io.fits:  ", header["CDELT1"])
print("wcs:      ", WCS(header).wcs.cdelt[0])
raise SystemExit(0 if header["CDELT1"] == -1e-4 and WCS(header).wcs.cdelt[0] == -1.0 else 1)
end
