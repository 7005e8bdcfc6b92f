import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from sky_headers import ROTATED, SIP, sky_header

from morpheus_core import InputError, MorpheusWarning, predict
from morpheus_core.sky import alignment

PIXELS = np.ones((30, 40), np.float32)


@pytest.fixture
def write(tmp_path):
    def write(name, header=None):
        fits.writeto(tmp_path / name, PIXELS, header)
        return tmp_path / name

    return write


def run(inputs, **options):
    options = {"aggregate_method": "mean_var", "progress": False, **options}
    hduls, _ = predict(lambda batch: batch[0], inputs, 1, 64, (8, 8), stride=(8, 8), **options)
    for hdul in hduls:
        hdul.close()


def moved(**changes):
    header = sky_header(ROTATED)
    for key, value in changes.items():
        header[key] += value
    return header


@pytest.mark.parametrize("changes", [{"CRPIX1": 0.11}, {"CRPIX2": -20}, {"PC1_1": 1e-7}])
def test_inputs_that_show_other_sky(write, changes):
    paths = [write("blank.fits"), write("a.fits", moved()), write("b.fits", moved(**changes))]
    with pytest.warns(MorpheusWarning, match=r"got .*b\.fits up to .* pixels away from .*a\.fits"):
        run(paths)
    with pytest.raises(InputError, match="resample one to the grid of the other"):
        run(paths, check_wcs="error")
    run(paths, check_wcs="ignore")


@pytest.mark.parametrize("changes", [{}, {"CRPIX1": 0.09}])
def test_inputs_that_show_the_same_sky(write, changes):
    paths = [write("a.fits", moved()), write("b.fits", moved(**changes)), write("no sky.fits")]
    run(paths, check_wcs="error")


def test_the_offset_is_in_pixels(write):
    paths = [write("a.fits", moved()), write("b.fits", moved(CRPIX1=3.0, CRPIX2=4.0))]
    with pytest.raises(InputError, match="up to 5 pixels away"):
        run(paths, check_wcs="error")


def test_inputs_are_compared_at_corners_edges_and_inside(monkeypatch):
    compared = []

    def separation(first, second, columns, rows):
        compared.extend(zip(columns.tolist(), rows.tolist(), strict=True))
        return np.full(len(columns), np.nan)

    monkeypatch.setattr(alignment, "separation", separation)
    wcs = WCS(moved())
    assert alignment.largest_offset(wcs, wcs, (31, 43)) == 0
    places = [(column, row) for column in (0.0, 21.0, 42.0) for row in (0.0, 15.0, 30.0)]
    assert set(places) < set(compared)
    assert max(compared) == (42.0, 30.0)
    assert min(compared) == (0.0, 0.0)
    compared.clear()
    alignment.largest_offset(wcs, wcs, (30, 42))
    assert max(compared) == (41.0, 29.0)


def test_distortion_counts(write):
    distorted = moved()
    distorted.update({**SIP, "A_2_0": 1e-3})
    paths = [write("a.fits", moved()), write("b.fits", distorted)]
    with pytest.raises(InputError, match=r"up to 0\.\d+ pixels away"):
        run(paths, check_wcs="error")


def test_frames_may_differ(write):
    """FK5 of equinox 2000 and ICRS agree to a few hundredths of an arcsecond."""
    other = moved()
    other["RADESYS"], other["EQUINOX"] = "FK5", 2000.0
    with pytest.raises(InputError, match=r"up to 0\.\d+ pixels away"):
        run([write("a.fits", moved()), write("b.fits", other)], check_wcs="error")
    coarse = [moved(), other]
    for header in coarse:
        for i, j in ((1, 1), (1, 2), (2, 1), (2, 2)):
            header[f"PC{i}_{j}"] *= 100
    paths = [write(f"coarse_{k}.fits", header) for k, header in enumerate(coarse)]
    run(paths, check_wcs="error")


def test_broken_coordinates_are_not_compared(write):
    paths = [write("a.fits", moved()), write("b.fits", fits.Header({"CTYPE1": "RA---XYZ"}))]
    run(paths, check_wcs="error")


def solar(**changes):
    header = moved(**changes)
    header["CTYPE1"], header["CTYPE2"] = "HPLN-TAN", "HPLT-TAN"
    header.remove("RADESYS", ignore_missing=True)
    return header


def test_frames_that_astropy_does_not_know(write):
    paths = [write("a.fits", solar()), write("b.fits", solar(CRPIX1=3.0, CRPIX2=4.0))]
    with pytest.raises(InputError, match="up to 5 pixels away"):
        run(paths, check_wcs="error")
    run([paths[0], write("c.fits", moved())], check_wcs="error")


def test_masks_are_compared_as_well(write, tmp_path):
    fits.writeto(tmp_path / "mask.fits", np.zeros((30, 40), np.uint8), moved(CRPIX1=5.0))
    with pytest.raises(InputError, match=r"mask\.fits up to 5 pixels away"):
        run(write("a.fits", moved()), mask=tmp_path / "mask.fits", check_wcs="error")


def test_planets_are_compared_by_their_numbers(write):
    """astropy cannot make a SkyCoord of these."""
    headers = [solar(), solar(CRPIX1=3.0, CRPIX2=4.0)]
    for header in headers:
        header["CTYPE1"], header["CTYPE2"] = "MALN-CAR", "MALT-CAR"
        header.update({"CRVAL1": 0.0, "CRVAL2": 0.0, "LONPOLE": 0.0, "LATPOLE": 90.0})
    paths = [write(f"{k}.fits", header) for k, header in enumerate(headers)]
    with pytest.raises(InputError, match="up to 5 pixels away"):
        run(paths, check_wcs="error")
