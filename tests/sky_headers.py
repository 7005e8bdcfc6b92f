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


def with_wat(header, kind, lng, lat, parameters=""):
    """Return a header of the IRAF kinds TNX and ZPX, whose polynomials are text in WAT cards."""
    header = header.copy()
    header.update({"CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}", "WCSDIM": 2})
    header["WAT0_001"] = "system=image"
    for axis, name, text in ((1, "ra", lng), (2, "dec", lat)):
        correction = f'{"lng" if axis == 1 else "lat"}cor = "{text}"'
        whole = f"wtype={kind.lower()} axtype={name} {parameters}{correction}"
        # wcslib wants full cards, and blanks at the ends of cards are lost.
        while " " in {whole[end] for cut in range(68, len(whole), 68) for end in (cut - 1, cut)}:
            whole = whole.replace(" axtype", "  axtype", 1)
        for start in range(0, len(whole), 68):
            header[f"WAT{axis}_{start // 68 + 1:03d}"] = whole[start : start + 68]
    return header


#: Kinds of polynomials: Chebyshev and plain ones, all cross terms and half of them.
TNX = {
    "chebyshev": (
        "1. 4. 4. 2. -0.0025 0.0025 -0.0025 0.0025 "
        "1e-6 -3e-7 4e-7 2e-7 5e-7 -2e-7 3e-7 1e-7 6e-7 -1e-7 ",
        "1. 4. 4. 2. -0.0025 0.0025 -0.0025 0.0025 "
        "-2e-6 3e-7 4e-7 -2e-7 5e-7 2e-7 3e-7 -1e-7 1e-7 -1e-7 ",
    ),
    "plain": (
        "3. 3. 3. 1. -0.003 0.003 -0.003 0.003 1e-6 2e-4 0.1 3e-4 0.02 1. 0.03 2. 50. ",
        "3. 3. 3. 1. -0.003 0.003 -0.003 0.003 2e-6 1e-4 0.1 2e-4 0.03 2. 0.01 1. 20. ",
    ),
}
