"""What programs of other people make of our files, and what we make of theirs."""

import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from conftest import require, require_program
from sky_headers import ROTATED, TNX, with_wat

from morpheus_core import (
    MorpheusWarning,
    export_candidates,
    export_masks,
    export_planes,
    export_segments,
    predict,
    predict_catalog,
)
from morpheus_core.catalogs.tables import read_catalog
from morpheus_core.results.table_files import WRITERS

pytestmark = pytest.mark.programs

SCALE = 0.06  # arcseconds per pixel
SHAPE = (80, 100)
#: Where the sources are, as columns and rows from 0.
SOURCES = np.array([[30.0, 20.0], [70.0, 50.0], [20.25, 60.5]])
PARAMETERS = [
    "NUMBER",
    "ALPHA_J2000",
    "DELTA_J2000",
    "X_IMAGE",
    "Y_IMAGE",
    "FLUX_MAX",
    "ISOAREA_IMAGE",
]
#: Every pixel above a threshold is an object, as for us.
AS_IT_IS = [
    *("-FILTER", "N", "-THRESH_TYPE", "ABSOLUTE", "-BACK_TYPE", "MANUAL", "-BACK_VALUE", "0"),
    *("-DETECT_MINAREA", "1", "-DEBLEND_MINCONT", "1", "-CLEAN", "N", "-VERBOSE_TYPE", "QUIET"),
]


def scores(batch):
    bright = np.clip(batch[0], 0, 1)
    return np.concatenate([bright, 1 - bright], axis=-1)


@pytest.fixture(params=["CD", "TNX"])
def folder(request, tmp_path):
    """All that can be written of a run over a field of three sources."""
    require("scipy")
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    header.update({"CRVAL1": 53.1, "CRVAL2": -27.8, "CRPIX1": 50.5, "CRPIX2": 40.5})
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = ROTATED[i - 1][j - 1] * SCALE / 3600
    if request.param == "TNX":
        header = with_wat(header, "TNX", *TNX["plain"])
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    squares = [(x - column) ** 2 + (y - row) ** 2 for column, row in SOURCES]
    image = sum(0.9 * np.exp(-square / 8) for square in squares)
    fits.writeto(tmp_path / "image.fits", image.astype(np.float32), header)
    options = {"aggregate_method": "mean_var", "class_names": ["source", "sky"]}
    arguments = scores, tmp_path / "image.fits", 2, 64, (8, 8)
    run = {"stride": (4, 4), "out_dir": tmp_path / "run", "progress": False, **options}
    if request.param == "TNX":
        with pytest.warns(MorpheusWarning, match="n keeps it"):
            hduls, _ = predict(*arguments, **run)
    else:
        hduls, _ = predict(*arguments, **run)
    for hdul in hduls:
        hdul.close()
    export_planes(tmp_path / "run", tmp_path / "planes.fits")
    export_planes(tmp_path / "run", tmp_path / "planes", files="one per plane", first_label=1)
    export_masks(tmp_path / "run", tmp_path / "masks.fits", 0.3)
    table = export_segments(tmp_path / "run", tmp_path / "labels.fits", "source", 0.3)
    export_candidates(table, tmp_path / "candidates.vot")
    export_candidates(table, tmp_path / "candidates.fits")
    return tmp_path


def ran(name, *arguments, folder):
    """Run a program and return what it prints."""
    command = [require_program(name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def candidates(folder):
    return Table.read(folder / "candidates.fits")


def extracted(
    folder,
    source,
    threshold,
    kind="ASCII_HEAD",
    name="sources.cat",
    parameters=PARAMETERS,
    options=(),
):
    """Run source-extractor and return its catalogue."""
    (folder / "all.param").write_text("\n".join(parameters))
    ran(
        "source-extractor", source, "-PARAMETERS_NAME", "all.param", "-CATALOG_NAME", name,
        "-CATALOG_TYPE", kind, "-DETECT_THRESH", threshold, "-ANALYSIS_THRESH", threshold,
        *AS_IT_IS, *options, folder=folder,
    )  # fmt: skip
    return folder / name


@pytest.fixture
def kept(folder):
    """Products of the same run, and each of them in a file of its own."""
    options = {"aggregate_method": "mean_var", "class_names": ["source", "sky"]}
    for name, dtype in (("kept", "float32"), ("rounded", "uint8")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MorpheusWarning)
            hduls, _ = predict(
                scores,
                folder / "image.fits",
                2,
                64,
                (8, 8),
                stride=(4, 4),
                out_dir=folder / name,
                products=["class_map", "bits", "top", "mean", "n"],
                product_dtype=dtype,
                progress=False,
                **options,
            )
        hduls[0].close()
    export_planes(folder / "kept", folder / "apart", files="one per plane", first_label=1)
    return folder


def test_fitsverify_finds_nothing_in_products(kept):
    for name in ("kept", "rounded"):
        told = ran("fitsverify", kept / name / "products.fits", folder=kept)
        assert "found 0 warning(s) and 0 error(s)" in told, told


@pytest.mark.parametrize("name", ["CLASS_MAP", "FLAGS"])
def test_source_extractor_takes_products_as_flags(kept, name):
    parameters = [*PARAMETERS, "IMAFLAGS_ISO(1)"]
    catalogue = extracted(
        kept,
        "image.fits",
        0.6,
        parameters=parameters,
        options=("-FLAG_IMAGE", f"apart/{name}.fits", "-FLAG_TYPE", "MAX"),
    )
    found = Table.read(catalogue, format="ascii.sextractor")
    assert len(found) == len(SOURCES)
    assert (found["IMAFLAGS_ISO"] == 1).all()  # the first class, and its flag


@pytest.mark.parametrize("name", ["kept", "rounded"])
def test_fitsio_reads_products(kept, name):
    fitsio = require("fitsio")
    path = kept / name / "products.fits"
    with fits.open(path) as hdus:
        for hdu in hdus[1:]:
            pixels = fitsio.read(path, hdu.name)
            blank = pixels == hdu.header.get("BLANK", np.nan) * hdu.header.get("BSCALE", 1)
            known = np.isfinite(hdu.data) & ~blank
            np.testing.assert_allclose(pixels[known], hdu.data[known], rtol=1e-6)


def test_fitsverify_finds_nothing(folder):
    paths = sorted([*folder.glob("*.fits"), *folder.glob("*/*.fits")])
    paths.remove(folder / "image.fits")
    told = ran("fitsverify", *paths, folder=folder)
    assert told.count("found 0 warning(s) and 0 error(s)") == len(paths) > 10, told


@pytest.mark.parametrize("name", ["run/n", "planes/SOURCE_MEAN", "planes", "labels"])
def test_imsize_sees_the_pixel_scale(folder, name):
    told = ran("imsize", f"{name}.fits", folder=folder)
    assert f"-{SCALE:.4f}/{SCALE:.4f}s/pix" in told


@pytest.mark.parametrize("plane", ["planes/SOURCE_MEAN", "labels"])
def test_gnuastro_sees_the_pixel_scale(folder, plane):
    told = ran("astfits", f"{plane}.fits", "-h0", "--pixelscale", "--quiet", folder=folder)
    np.testing.assert_allclose([float(word) for word in told.split()[:2]], SCALE / 3600, rtol=1e-3)


def test_gnuastro_measures_labels(folder):
    ran(
        "astmkcatalog", "labels.fits", "-h0", "--valuesfile=planes/SOURCE_MEAN.fits",
        "--valueshdu=0", "--ids", "--x", "--y", "--ra", "--dec", "--area", "--quiet",
        "--output=measured.fits", folder=folder,
    )  # fmt: skip
    measured, ours = read_catalog(folder / "measured.fits"), candidates(folder)
    assert measured["OBJ_ID"].tolist() == ours["id"].tolist() == [1, 2, 3]
    assert measured["AREA"].tolist() == ours["area"].tolist()
    np.testing.assert_allclose(measured["X"] - 1, ours["x"], atol=2e-3)
    np.testing.assert_allclose(measured["RA"], ours["ra"], rtol=0, atol=2e-7)
    np.testing.assert_allclose(measured["DEC"], ours["dec"], rtol=0, atol=2e-7)
    table = predict_catalog(
        lambda batch: batch[0][:, 4, 4, :1], folder / "image.fits", folder / "measured.fits", 1, 8,
        (9, 9), x="X", y="Y", progress=False,
    )  # fmt: skip
    assert (table["class_0"] > 0.8).all()  # the middle of each source


def test_gnuastro_takes_no_class_for_blank(folder):
    told = ran(
        "aststatistics", "planes/CLASS_MAP.fits", "-h0", "--number", "--quiet", folder=folder
    )
    assert int(told) == SHAPE[0] * SHAPE[1]


def test_source_extractor_finds_each_label(folder):
    found = Table.read(extracted(folder, "labels.fits", 0.5), format="ascii.sextractor")
    assert sorted(found["FLUX_MAX"]) == [1, 2, 3]
    order = np.argsort(found["FLUX_MAX"])
    assert found["ISOAREA_IMAGE"][order].tolist() == candidates(folder)["area"].tolist()


def test_source_extractor_reads_planes(folder):
    found = Table.read(extracted(folder, "planes/SOURCE_MEAN.fits", 0.3), format="ascii.sextractor")
    wcs = WCS(fits.getheader(folder / "image.fits"))
    expected = wcs.all_pix2world(np.stack([found["X_IMAGE"], found["Y_IMAGE"]], axis=-1), 1)
    assert len(found) == 3
    # It keeps pixels as float32.
    np.testing.assert_allclose(found["ALPHA_J2000"], expected[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["DELTA_J2000"], expected[:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["ASCII_HEAD", "FITS_LDAC", "FITS_1.0", "ASCII_VOTABLE"])
@pytest.mark.parametrize("columns", [{}, {"x": "X_IMAGE", "y": "Y_IMAGE"}])
def test_catalogues_of_source_extractor(folder, kind, columns):
    catalogue = extracted(folder, "image.fits", 0.3, kind)
    table = predict_catalog(
        lambda batch: batch[0][:, 4, 4, :1], folder / "image.fits", catalogue, 1, 8, (9, 9),
        progress=False, **columns,
    )  # fmt: skip
    assert len(table) == 3
    assert (table["class_0"] > 0.8).all()


@pytest.mark.parametrize("end", [".fits", ".vot", ".csv"])
def test_stilts_reads_what_is_missing(tmp_path, end):
    ids = np.ma.array([2**63 - 1, 587722981736120347, 0], mask=[0, 0, 1])
    table = Table({"id": ids, "p": np.array([0.1, 0.0, np.nan], np.float32)})
    WRITERS[end](table, tmp_path / f"table{end}")
    kind = {".vot": "votable"}.get(end, end[1:])
    told = ran(
        "stilts", "tpipe", f"in=table{end}", f"ifmt={kind}", "ofmt=csv", folder=tmp_path
    ).splitlines()
    assert told[0] == "id,p"
    assert told[1:3] == ["9223372036854775807,0.1", "587722981736120347,0.0"]
    assert told[3] in (",", '"",""')


def test_stilts_finds_nothing_wrong_with_a_votable(folder):
    assert ran("stilts", "votlint", "candidates.vot", folder=folder) == ""
