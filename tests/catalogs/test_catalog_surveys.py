"""Votes for each galaxy of a list, and a redshift with its spread for each."""

import bz2

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import MorpheusWarning, adapters, columns, predict_catalog


@pytest.fixture(scope="module")
def galaxies():
    require("torch")
    import simulated_galaxies

    return simulated_galaxies


@pytest.fixture(scope="module")
def votes(galaxies, tmp_path_factory):
    """The file that comes out, the file that went in, and what the galaxies are."""
    import torch

    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("zoo")
    image, catalog, kinds = galaxies.field(12, seed=7)
    image.writeto(folder / "field.fits")
    catalog.write(folder / "galaxies.csv", format="ascii.csv")
    predict_catalog(
        adapters.torch_model(galaxies.trained(), activation="sigmoid"), folder / "field.fits",
        folder / "galaxies.csv", 9, 64, (galaxies.SIZE, galaxies.SIZE),
        class_names=galaxies.VOTES, keep=["OBJID"], out=folder / "votes.csv", progress=False,
    )  # fmt: skip
    torch.set_num_threads(threads)
    return folder / "votes.csv", folder / "galaxies.csv", kinds


class TestGalaxyZoo:
    def test_the_file_has_an_answer_for_each_galaxy(self, votes, galaxies):
        first, *lines = votes[0].read_text().splitlines()
        assert first.split(",") == ["OBJID", *galaxies.VOTES, "status"]
        given = [line.split(",")[0] for line in votes[1].read_text().splitlines()[1:]]
        assert [line.split(",")[0] for line in lines] == given
        assert len(given[0]) == 18
        assert {line.split(",")[-1] for line in lines} == {"ok"}

    def test_unseen_galaxies_are_told_apart(self, votes, galaxies):
        table, kinds = Table.read(votes[0]), votes[2]
        spirals, ellipticals = np.isin(kinds, galaxies.KINDS[1:4]), kinds == "P_EL"
        assert np.mean(table["P_CS"][spirals] > 0.5) > 0.95
        assert np.mean(table["P_EL"][ellipticals] > 0.5) > 0.95
        assert np.mean(table["P_CS"][ellipticals] < 0.5) > 0.95

    def test_the_sense_of_winding_is_seen(self, votes):
        """Windows that were mirrored or transposed would wind the other way."""
        table, kinds = Table.read(votes[0]), votes[2]
        wound = np.isin(kinds, ["P_CW", "P_ACW"])
        clockwise = table["P_CW"] > table["P_ACW"]
        assert np.mean(clockwise[wound] == (kinds == "P_CW")[wound]) > 0.95


TEMPLATE = "frame-{band}-{run:06d}-{camcol}-{field:04d}.fits.bz2"
N_ROWS, N_FIELDS, SHAPE = 200, 25, (60, 70)
MISSING, EMPTY, TRUNCATED = [("u", 3), ("g", 9), ("z", 9)], [("r", 12), ("i", 20)], ("z", 24)
CENTRES = np.linspace(0, 0.4, 100, endpoint=False) + 0.002


def frame(band, field):
    return np.random.default_rng([ord(band), field]).normal(field, 1, SHAPE).astype("f4")


def frame_name(band, field):
    return TEMPLATE.format(band=band, run=94 + field % 2, camcol=1 + field % 3, field=field)


def frame_wcs(band, field):
    """Bands differ by some pixels in their pointing."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 10 + 0.5 * field, 1.0
    wcs.wcs.crpix = 35 + "ugriz".index(band), 30
    wcs.wcs.cdelt = -0.396 / 3600, 0.396 / 3600
    return wcs


def softmax_network(batch):
    """Return a softmax over 100 bins that every band moves."""
    means = np.stack([window.mean(axis=(1, 2, 3), dtype="f8") for window in batch], axis=1)
    peaks = 20 + means @ [0.1, 0.3, 0.5, 0.3, 0.2]
    scores = -(((np.arange(100) - peaks[:, np.newaxis]) / 6) ** 2) / 2
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for field in range(N_FIELDS):
        for band in "ugriz":
            hdu = fits.PrimaryHDU(frame(band, field), frame_wcs(band, field).to_header())
            hdu.writeto(folder / "frame.fits", overwrite=True)
            data = bz2.compress((folder / "frame.fits").read_bytes(), 1)
            (folder / frame_name(band, field)).write_bytes(data)
    for band, field in MISSING:
        (folder / frame_name(band, field)).unlink()
    for band, field in EMPTY:
        (folder / frame_name(band, field)).write_bytes(b"")
    truncated = folder / frame_name(*TRUNCATED)
    truncated.write_bytes(truncated.read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def sources():
    """A catalogue of positions whose windows lie within all bands."""
    random = np.random.default_rng(9)
    field = random.permutation(np.arange(N_ROWS) % N_FIELDS)
    places = random.uniform((18, 18), (48, 42), (N_ROWS, 2))
    sky = [
        frame_wcs("u", number).pixel_to_world(*place)
        for number, place in zip(field, places, strict=True)
    ]
    return Table(
        {
            "objID": 1237648720693755918 + np.arange(N_ROWS),
            "run": 94 + field % 2,
            "camcol": 1 + field % 3,
            "field": field,
            "ra": [one.ra.deg for one in sky],
            "dec": [one.dec.deg for one in sky],
        }
    )


@pytest.fixture(scope="module")
def redshifts(frames, sources):
    wanted = [
        columns.expected_value(CENTRES),
        columns.std(CENTRES),
        columns.quantiles(0.16, 0.5, 0.84, bin_centres=CENTRES),
    ]
    with pytest.warns(MorpheusWarning, match="40 of 200 rows have no result: 160 ok, 16 missing"):
        return predict_catalog(
            softmax_network, str(frames / TEMPLATE), sources, 100, 32, (32, 32), bands=[*"ugriz"],
            columns=wanted, edges="skip", progress=False, output_dtype="float64",
        )  # fmt: skip


class TestPhotometricRedshifts:
    """200 rows of 25 fields in five bands; 3 frames are missing, 2 empty, 1 truncated."""

    def test_every_row_has_a_status(self, redshifts, sources):
        missing = np.isin(sources["field"], [3, 9])
        unreadable = np.isin(sources["field"], [12, 20, 24])
        expected = np.select([missing, unreadable], ["missing file", "unreadable file"], "ok")
        assert len(redshifts) == 200
        assert_array_equal(redshifts["objID"], sources["objID"])
        assert_array_equal(redshifts["status"], expected)

    def test_every_row_has_a_redshift_with_its_spread(self, redshifts):
        good = redshifts["status"] == "ok"
        for name in ("expected_value", "std", "q0.16", "q0.5", "q0.84"):
            assert_array_equal(np.isfinite(redshifts[name]), good)
        # A Gaussian of six bins, but for the tail that the first bin cuts off.
        middle = good & (redshifts["expected_value"] > 0.12)
        assert middle.sum() > 50
        assert_allclose(redshifts["std"][middle], 6 * 0.004, rtol=1e-2)
        assert_allclose(redshifts["q0.5"], redshifts["expected_value"], atol=1e-3)
        width = (redshifts["q0.84"] - redshifts["q0.16"])[middle]
        assert_allclose(width, 2 * 0.9945 * 0.024, rtol=2e-2)

    def test_redshifts_are_of_windows_at_the_same_sky_in_each_band(self, redshifts):
        for row in redshifts[redshifts["status"] == "ok"][::10]:
            batch = []
            for band in "ugriz":
                wcs = frame_wcs(band, row["field"])
                x, y = wcs.all_world2pix(row["ra"], row["dec"], 0)
                top, left = np.ceil([y - 16, x - 16]).astype(int)
                window = frame(band, row["field"])[top : top + 32, left : left + 32]
                batch.append(window[np.newaxis, ..., np.newaxis])
            expected = softmax_network(batch) @ CENTRES
            assert row["expected_value"] == pytest.approx(expected[0], abs=1e-12)
