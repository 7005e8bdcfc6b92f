"""Headers of images that lie on the sky."""

import numpy as np
from astropy.wcs import WCS

ROTATED = ((-0.8, 0.6), (0.6, 0.8))
SIP = {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "A_ORDER": 2,
    "A_2_0": 1e-5,
    "B_ORDER": 2,
    "B_0_2": 1e-5,
}
TPV = {
    "CTYPE1": "RA---TPV",
    "CTYPE2": "DEC--TPV",
    "PV1_0": 2e-5,
    "PV1_1": 1.001,
    "PV1_2": 2e-4,
    "PV1_4": 0.3,
    "PV2_0": -1e-5,
    "PV2_1": 0.999,
    "PV2_2": -1e-4,
    "PV2_4": 0.2,
}


def sky_header(matrix=((-1.0, 0.0), (0.0, 1.0))):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 53.1, -27.8
    wcs.wcs.crpix = 20.5, 11.0
    wcs.wcs.cd = np.array(matrix) * 0.06 / 3600
    return wcs.to_header()
