"""World coordinates of gwcs, as files of Roman and JWST have them."""

import numpy as np
import pytest
from astropy import coordinates
from astropy import units as u
from astropy.modeling import models
from astropy.nddata import NDData
from astropy.table import Table
from astropy.wcs import WCS
from conftest import require

from morpheus_core import MorpheusWarning, predict, predict_catalog

asdf, gwcs = require("asdf"), require("gwcs")
frames = require("gwcs.coordinate_frames")
datamodels = require("roman_datamodels.datamodels")
ImageModel, MosaicModel = datamodels.ImageModel, datamodels.MosaicModel

IMAGE = np.arange(90 * 110, dtype="f8").reshape(90, 110)
ROWS, COLUMNS = np.array([12, 40, 71]), np.array([20, 55, 97])
FIT = r"is fitted by a SIP polynomial, which is up to [\d.e-]+ pixels off"


def make_wcs(distortion, frame=None):
    """Return a pipeline from detector to sky, with a quadratic term where there is distortion."""
    bent = models.Mapping((0, 1, 0, 1)) | (
        models.Polynomial2D(2, c1_0=1, c2_0=distortion) & models.Polynomial2D(2, c0_1=1)
    )
    transform = (
        (models.Shift(-50.0) & models.Shift(-40.0))
        | bent
        | models.AffineTransformation2D([[-1e-4, 2e-5], [2e-5, 1e-4]])
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(150.0, 2.0, 180.0)
    )
    detector = frames.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    sky = frames.CelestialFrame(
        reference_frame=frame or coordinates.ICRS(), name="sky", unit=(u.deg, u.deg)
    )
    made = gwcs.WCS([(detector, transform), (sky, None)])
    made.bounding_box = ((-0.5, 109.5), (-0.5, 89.5))
    return made


def middle(batch):
    return batch[0][:, 2, 2, :1]


def values_at(source, wcs, **options):
    sky = wcs.pixel_to_world(COLUMNS, ROWS).icrs
    table = Table({"ra": sky.ra.deg, "dec": sky.dec.deg})
    options = {"progress": False, "output_dtype": "float64", **options}
    return predict_catalog(middle, source, table, 1, 8, (5, 5), **options)["class_0"].tolist()


def n_header(source):
    def model(batch):
        return np.zeros((*batch[0].shape[:3], 2))

    hduls, _ = predict(model, source, 2, 64, (10, 10), stride=(10, 10), progress=False)
    return hduls[1][0].header


def assert_same_sky(header, wcs, pixels):
    found, expected = WCS(header).pixel_to_world(COLUMNS, ROWS), wcs.pixel_to_world(COLUMNS, ROWS)
    assert found.icrs.separation(expected.icrs).deg.max() < pixels * 1e-4


@pytest.mark.parametrize("frame", [coordinates.ICRS(), coordinates.Galactic()])
def test_exact_projections(frame):
    wcs = make_wcs(0, frame)
    source = NDData(IMAGE, wcs=wcs)
    assert values_at(source, wcs) == IMAGE[ROWS, COLUMNS].tolist()
    header = n_header(source)
    assert header["CTYPE1"].endswith("-TAN")
    assert_same_sky(header, wcs, 1e-3)


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
def test_distortions_are_exact_in_catalogues_and_fitted_in_headers():
    wcs = make_wcs(2e-4)
    source = NDData(IMAGE, wcs=wcs)
    with pytest.warns(MorpheusWarning, match=FIT):
        assert values_at(source, wcs) == IMAGE[ROWS, COLUMNS].tolist()
    with pytest.warns(MorpheusWarning, match=FIT):
        header = n_header(source)
    assert header["CTYPE1"] == "RA---TAN-SIP"
    assert_same_sky(header, wcs, 1e-2)


def jwst_like(path, wcs):
    asdf.AsdfFile({"data": IMAGE.astype("f4"), "meta": {"wcs": wcs}}).write_to(path)
    return path


def roman(path, wcs, model):
    made = model.create_fake_data(shape=IMAGE.shape)
    made.data[:] = IMAGE
    made.meta.wcs = wcs
    made.save(path)
    return f"{path}[roman.data]"


@pytest.mark.parametrize(
    "write",
    [
        jwst_like,
        lambda path, wcs: roman(path, wcs, ImageModel),
        lambda path, wcs: roman(path, wcs, MosaicModel),
    ],
    ids=["JWST", "Roman L2", "Roman L3"],
)
def test_files(tmp_path, write):
    wcs = make_wcs(0)
    source = write(tmp_path / "image.asdf", wcs)
    assert values_at(source, wcs) == IMAGE[ROWS, COLUMNS].tolist()
    assert_same_sky(n_header(source), wcs, 1e-3)


@pytest.mark.slow
def test_workers(tmp_path):
    wcs = make_wcs(0)
    source, out = roman(tmp_path / "image.asdf", wcs, MosaicModel), tmp_path / "out.fits"
    assert values_at(source, wcs, cpus=2, out=out) == IMAGE[ROWS, COLUMNS].tolist()


def test_positions_off_the_image():
    wcs = make_wcs(0)
    table = Table({"ra": [150.0, 151.0, 150.02], "dec": [2.0, 2.0, 2.0]})
    source = NDData(IMAGE, wcs=wcs)
    with pytest.warns(MorpheusWarning, match="2 off image"):
        found = predict_catalog(middle, source, table, 1, 8, (5, 5), progress=False)
    assert found["status"].tolist() == ["ok", "off image", "off image"]
