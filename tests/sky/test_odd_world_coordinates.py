"""Headers that archives have, and the standard does not: their places are those that are meant."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS, DistortionLookupTable
from sky_headers import ROTATED, SIP, TNX, TPV, sky_header, with_wat

from morpheus_core import InputError, MorpheusWarning, predict, predict_catalog
from morpheus_core.images.stack import open_inputs
from morpheus_core.sky.alignment import check_alignment

IMAGE = np.arange(100 * 100.0).reshape(100, 100)
COLUMNS, ROWS = np.array([30, 50, 75]), np.array([32, 50, 70])


def middle(batch):
    """Return the value in the middle of each window."""
    height, width = batch[0].shape[1:3]
    return batch[0][:, height // 2, width // 2, :1]


def values_at(image, longitudes, latitudes):
    table = Table({"ra": longitudes, "dec": latitudes})
    options = {"progress": False, "output_dtype": "float64"}
    return predict_catalog(middle, image, table, 1, 8, (5, 5), **options)["class_0"].tolist()


def n_header(image, **options):
    def model(batch):
        return np.zeros((*batch[0].shape[:3], 2))

    hduls, _ = predict(model, image, 2, 64, (20, 20), stride=(20, 20), progress=False, **options)
    return hduls[1][0].header


def write(path, header):
    fits.writeto(path, IMAGE, header)
    return str(path)


@pytest.fixture
def leftover(tmp_path):
    """A rectified mosaic, with SIP cards of one of its exposures."""
    header = sky_header(ROTATED)
    header.update({key: value for key, value in SIP.items() if not key.startswith("CTYPE")})
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    return write(tmp_path / "mosaic.fits", header)


WARNING = r"mosaic\.fits has cards of a SIP distortion, A_ORDER, .*'RA---TAN', does not announce"


def test_windows_follow_ctype(leftover):
    sky = WCS(sky_header(ROTATED)).all_pix2world(COLUMNS, ROWS, 0)
    with pytest.warns(MorpheusWarning, match=WARNING):
        assert values_at(leftover, *sky) == IMAGE[ROWS, COLUMNS].tolist()


def test_outputs_follow_ctype(leftover):
    with pytest.warns(MorpheusWarning, match=WARNING):
        header = n_header(leftover)
    assert header["CTYPE1"] == "RA---TAN"
    assert "A_ORDER" not in header
    np.testing.assert_allclose(
        WCS(header).all_pix2world(COLUMNS, ROWS, 0),
        WCS(sky_header(ROTATED)).all_pix2world(COLUMNS, ROWS, 0),
        rtol=0,
        atol=1e-10,
    )


UNITS = ["degree", "degrees", "DEG", "Deg", " deg ", "[deg]", "DEGREES"]


@pytest.mark.parametrize("cube", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_units_of_degrees(tmp_path, unit, cube):
    header = sky_header(ROTATED)
    expected = WCS(header).all_pix2world(COLUMNS, ROWS, 0)
    header["CUNIT1"] = header["CUNIT2"] = unit
    if cube:
        header.update({"WCSAXES": 3, "CTYPE3": "WAVE", "CUNIT3": "ANGSTROM", "CDELT3": 1.0})
    path = write(tmp_path / "image.fits", header)
    assert values_at(path, *expected) == IMAGE[ROWS, COLUMNS].tolist()
    found = WCS(n_header(path)).all_pix2world(COLUMNS, ROWS, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("unit", ["arcsec", "ARCSEC", "arcseconds", "arcmin", "Arcmin"])
def test_units_of_parts_of_degrees(tmp_path, unit):
    factor = 3600 if "sec" in unit.lower() else 60
    header = sky_header(ROTATED)
    expected = WCS(header).all_pix2world(COLUMNS, ROWS, 0)
    header["CUNIT1"] = header["CUNIT2"] = unit
    for key in [key for key in header if key.startswith(("CRVAL", "CDELT", "CD1_", "CD2_"))]:
        header[key] *= factor
    if not {"CDELT1", "CD1_1"} & set(header):
        header["CDELT1"] = header["CDELT2"] = factor
    path = write(tmp_path / "image.fits", header)
    assert values_at(path, *expected) == IMAGE[ROWS, COLUMNS].tolist()


@pytest.mark.parametrize("unit", UNITS)
def test_images_with_odd_units_are_compared(unit):
    """Those that are 30 pixels apart passed, as images that say nothing of their place."""
    headers = [sky_header(ROTATED), sky_header(ROTATED)]
    headers[1]["CRPIX1"] += 30
    headers[1]["CUNIT1"] = headers[1]["CUNIT2"] = unit
    with (
        open_inputs([fits.ImageHDU(IMAGE, header) for header in headers]) as stack,
        pytest.raises(InputError, match="up to 30 pixels away"),
    ):
        check_alignment(stack.images, "error")


def lookup_table(value):
    grid = np.full((4, 4), value, "f4")
    return DistortionLookupTable(grid, (1.0, 1.0), (1.0, 1.0), (33.0, 33.0))


@pytest.fixture(params=["cpdis", "det2im"])
def tables(request, tmp_path):
    """A file whose distortion is in tables, and the sky positions of some of its pixels."""
    wcs = WCS(sky_header(ROTATED))
    setattr(wcs, f"{request.param}1", lookup_table(5.0))
    setattr(wcs, f"{request.param}2", lookup_table(0.0))
    made = wcs.to_fits(relax=True)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(IMAGE, made[0].header, name="SCI"), *made[1:]]
    fits.HDUList(hdus).writeto(tmp_path / "flt.fits")
    with fits.open(tmp_path / "flt.fits") as file:
        sky = WCS(file["SCI"].header, file).all_pix2world(COLUMNS, ROWS, 0)
    return tmp_path / "flt.fits", sky


def test_tables_of_the_file_are_honoured(tables):
    path, sky = tables
    assert values_at(f"{path}[SCI]", *sky) == IMAGE[ROWS, COLUMNS].tolist()
    with fits.open(path) as file:
        assert values_at(file["SCI"], *sky) == IMAGE[ROWS, COLUMNS].tolist()
        assert file["SCI"].data is not None
        assert values_at(file["SCI"], *sky) == IMAGE[ROWS, COLUMNS].tolist()


@pytest.mark.parametrize("how", ["copied", "made"])
def test_tables_that_are_not_with_an_hdu_are_missed(tables, how):
    path, sky = tables
    with fits.open(path) as file:
        made = fits.ImageHDU(file["SCI"].data, file["SCI"].header)
        hdu = file["SCI"].copy() if how == "copied" else made
        with pytest.raises(InputError, match=r"tables of the file .* pass the path of the file"):
            values_at(hdu, *sky)
        with pytest.warns(MorpheusWarning, match="distortion tables .* left out"):
            n_header(hdu)


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_tables_of_ccd_data_are_honoured(tables, tmp_path, workers):
    options = {} if workers is None else {"cpus": workers, "out": tmp_path / "out.fits"}
    path, sky = tables
    with fits.open(path) as file:
        source = CCDData(file["SCI"].data, wcs=WCS(file["SCI"].header, file), unit="adu")
        table = Table({"ra": sky[0], "dec": sky[1]})
        with pytest.warns(MorpheusWarning, match="distortion tables of .* left out"):
            found = predict_catalog(middle, source, table, 1, 8, (5, 5), progress=False, **options)
        assert found["class_0"].tolist() == IMAGE[ROWS, COLUMNS].tolist()


def corner(batch):
    """Return the value of the first pixel of each window."""
    return batch[0][:, 0, 0, :1]


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 9)])
@pytest.mark.parametrize("distortion", ["TAN", "rotated", "SIP"])
@pytest.mark.parametrize("half", [0, 0.5])
def test_pixels_and_sky_give_the_same_windows(distortion, shape, half):
    """The noise of the transformation decided on which side of a pixel a position was."""
    header = sky_header(((-1, 0), (0, 1)) if distortion == "TAN" else ROTATED)
    header.update(SIP if distortion == "SIP" else {})
    image = fits.ImageHDU(IMAGE, header)
    x, y = np.random.default_rng(0).integers(12, 88, (2, 100)) + half
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    found = [
        predict_catalog(corner, image, table, 1, 64, shape, progress=False, output_dtype="f8")
        for table in (Table({"x": x, "y": y}), Table({"ra": ra, "dec": dec}))
    ]
    np.testing.assert_array_equal(found[0]["class_0"], found[1]["class_0"])


SCALES = {
    "PC": {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
    "CROTA": {"CROTA2": -float(np.degrees(np.arctan2(0.6, 0.8)))},
    "arcsec": {"CUNIT1": "arcsec", "CUNIT2": "arcsec"},
}


@pytest.mark.parametrize("kind", SCALES)
def test_polynomials_of_tpv_are_of_degrees(tmp_path, kind):
    """wcslib takes them to be of pixels where CDELT says the scale."""
    header = fits.Header({**TPV, "CRVAL1": 53.1, "CRVAL2": -27.8, "CRPIX1": 20.5, "CRPIX2": 11.0})
    scale = 0.06 / 3600
    matrix = scale * np.array([[-0.8, 0.6], [0.6, 0.8]])
    if kind == "arcsec":
        matrix = scale * np.diag([-1.0, 1.0])
    expected = header.copy()
    expected.update({f"CD{i + 1}_{j + 1}": matrix[i, j] for i in (0, 1) for j in (0, 1)})
    sky = WCS(expected).all_pix2world(COLUMNS, ROWS, 0)
    header.update({"CDELT1": -scale, "CDELT2": scale, **SCALES[kind]})
    if kind == "arcsec":
        for key in ("CRVAL1", "CRVAL2", "CDELT1", "CDELT2"):
            header[key] *= 3600
    path = write(tmp_path / "image.fits", header)
    assert values_at(path, *sky) == IMAGE[ROWS, COLUMNS].tolist()
    with pytest.warns(MorpheusWarning, match="n keeps it"):
        found = WCS(n_header(path)).all_pix2world(COLUMNS, ROWS, 0)
    np.testing.assert_allclose(found, sky, rtol=0, atol=1e-10)


def camera_header(projection, cards, sip):
    """Return a header as cameras and SCAMP write it, with CD."""
    header = fits.Header({"CRVAL1": 53.1, "CRVAL2": -27.8, "CRPIX1": 20.5, "CRPIX2": 11.0})
    ending = f"{projection}-SIP" if sip else projection
    header.update({"CTYPE1": f"RA---{ending}", "CTYPE2": f"DEC--{ending}"})
    header.update({f"CD{i + 1}_{j + 1}": 1e-4 * ROTATED[i][j] for i in (0, 1) for j in (0, 1)})
    if sip:
        header.update({key: value for key, value in SIP.items() if not key.startswith("CTYPE")})
    return fits.Header({**header, **cards})


def with_scales(header):
    """Return that header with CDELT and PC in place of CD."""
    header = header.copy()
    del header["CD*"]
    header.update({"CDELT1": 1e-4, "CDELT2": 1e-4})
    header.update({f"PC{i + 1}_{j + 1}": ROTATED[i][j] for i in (0, 1) for j in (0, 1)})
    return header


def assert_places(path, truth):
    """Compare catalogue and outputs with what a header says."""
    sky = WCS(truth).all_pix2world(COLUMNS, ROWS, 0)
    assert np.isfinite(sky).all()
    assert values_at(path, *sky) == IMAGE[ROWS, COLUMNS].tolist()
    found = WCS(n_header(path)).all_pix2world(COLUMNS, ROWS, 0)
    np.testing.assert_allclose(found, sky, rtol=0, atol=1e-9)


IRAF = {"TNX": "", "ZPX": "projp1=1. projp3=337.74 "}


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
@pytest.mark.parametrize("kind", IRAF)
def test_polynomials_of_iraf_are_of_degrees(tmp_path, kind):
    """wcslib makes millions of pixels of them where CDELT says the scale."""
    truth = with_wat(camera_header("TAN", {}, sip=False), kind, *TNX["plain"], IRAF[kind])
    assert_places(write(tmp_path / "image.fits", with_scales(truth)), truth)


OF_THE_STANDARD = {
    "fiducial": ("TAN", {"PV1_1": 10.0, "PV1_2": 80.0}),
    "north": ("TAN", {"PV1_1": 0.0, "PV1_2": 90.0, "PV1_3": 170.0, "PV1_4": 0.0}),
    "no effect": ("TAN", {"PV2_1": 1.0, "PV2_2": 0.0, "PV2_3": 42.0}),
    "slant": ("SIN", {"PV2_1": 0.1, "PV2_2": -0.2}),
    "radial": ("ZPN", {"PV2_1": 1.0, "PV2_3": 337.0}),
}


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("kind", OF_THE_STANDARD)
def test_parameters_of_projections_are_kept(tmp_path, kind, sip):
    """Beside SIP they were dropped."""
    header = camera_header(*OF_THE_STANDARD[kind], sip)
    assert_places(write(tmp_path / "image.fits", header), header)


SCAMP = {
    "first degree": {"PV1_0": 1e-4, "PV1_1": 1.001, "PV1_2": 0.0, "PV2_0": 0.0, "PV2_1": 0.999},
    "without constant": {"PV1_1": 1.001, "PV1_2": 1e-4, "PV2_1": 0.999, "PV2_2": 1e-4},
    "higher degree": {**TPV, "PV1_7": 0.01},
}


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
@pytest.mark.parametrize("scale", ["CD", "CDELT"])
@pytest.mark.parametrize("kind", SCAMP)
def test_polynomials_of_scamp_under_tan(tmp_path, kind, scale):
    cards = {key: value for key, value in SCAMP[kind].items() if key.startswith("PV")}
    truth, header = (camera_header(name, cards, sip=False) for name in ("TPV", "TAN"))
    path = write(tmp_path / "image.fits", with_scales(header) if scale == "CDELT" else header)
    if kind == "higher degree":
        assert_places(path, truth)
    else:
        match = r"image\.fits has a polynomial in PV1_\d, .*'RA---TAN', does not announce"
        with pytest.warns(MorpheusWarning, match=match):
            assert_places(path, truth)


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
@pytest.mark.parametrize("kind", SCAMP)
def test_polynomials_of_scamp_beside_sip(tmp_path, kind):
    cards = {key: value for key, value in SCAMP[kind].items() if key.startswith("PV")}
    path = write(tmp_path / "image.fits", camera_header("TAN", cards, sip=True))
    truth = camera_header("TAN", {}, sip=True)
    if kind == "higher degree":
        assert_places(path, truth)
    else:
        with pytest.warns(MorpheusWarning, match="beside its SIP distortion: it is taken for"):
            assert_places(path, truth)
