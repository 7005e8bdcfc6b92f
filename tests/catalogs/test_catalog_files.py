"""Tables on disk: what other programs read of ours, and what we read of theirs."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from conftest import require

from morpheus_core import InputError, MorpheusWarning, predict_catalog
from morpheus_core.catalogs.positions import find_positions
from morpheus_core.catalogs.tables import read_catalog
from morpheus_core.results.table_files import WRITERS

LARGEST = 2**63 - 1


def awkward_table():
    """Return a table of what is lost on the way most often."""
    lowest = np.iinfo(np.int16).min
    table = Table(
        {
            "OBJID": np.ma.array([LARGEST, 587722981736120347, 999999], mask=[0, 0, 1]),
            "small": np.array([1, -2, 3], np.int8),
            "near": np.ma.array(np.array([lowest, lowest + 1, 0], np.int16), mask=[0, 0, 1]),
            "flag": np.ma.array([True, False, True], mask=[0, 0, 1]),
            "name": np.ma.array(["a", "", "c"], mask=[0, 0, 1]),
            "p": np.array([0.1, -0.0, np.nan], np.float32),
            "status": ["ok", "ok", "off image"],
        }
    )
    table["p"].unit, table["p"].description = "1 / arcsec2", "a probability"
    return table


@pytest.fixture
def written(tmp_path):
    """Write the table in a format, and return where."""

    def written(end):
        if end == ".parquet":
            require("pyarrow")
        path = tmp_path / f"table{end}"
        WRITERS[end](awkward_table(), path)
        return path

    return written


@pytest.mark.parametrize("end", [".csv", ".ecsv", ".fits", ".parquet"])
def test_what_is_missing_is_missing_when_it_is_read_again(written, end):
    table = read_catalog(written(end))
    assert table["OBJID"].tolist() == [LARGEST, 587722981736120347, None]
    assert table["small"].tolist() == [1, -2, 3]
    assert table["near"].tolist() == [-(2**15), -(2**15) + 1, None]
    assert not np.isfinite(np.ma.filled(table["p"].astype(float), np.nan)[2])
    assert table["p"][0] == pytest.approx(0.1)
    if end != ".fits":
        assert [str(value) for value in table["name"].tolist()[::2]] == ["a", "None"]


def test_parquet_has_nulls_units_and_descriptions(written):
    require("pyarrow")
    from pyarrow import parquet

    table = parquet.read_table(written(".parquet"))
    assert table.column_names == awkward_table().colnames
    for name in ("OBJID", "near", "flag", "name", "p"):
        assert table[name].to_pylist()[2] is None
    assert table["OBJID"].to_pylist()[:2] == [LARGEST, 587722981736120347]
    assert table.field("p").metadata == {b"unit": b"1 / arcsec2", b"description": b"a probability"}


@pytest.mark.parametrize("end", [".csv", ".parquet"])
@pytest.mark.parametrize("package", ["pandas", "polars", "duckdb"])
def test_other_packages_count_no_missing_rows(written, package, end):
    path, module = written(end), require(package)
    if package == "duckdb":
        with module.connect() as database:
            count = database.execute(f"select count(*) from '{path}' where p > 0.05").fetchone()[0]
            (kind,) = database.execute(f"select typeof(OBJID) from '{path}' limit 1").fetchone()
        assert (count, kind) == (1, "BIGINT")
        return
    table = getattr(module, f"read_{end[1:]}")(path)
    assert (table["p"] > 0.05).sum() == 1
    ids = table["OBJID"].drop_nulls() if package == "polars" else table["OBJID"].dropna()
    assert len(ids) == 2


def test_csv_is_short(written):
    lines = written(".csv").read_text().splitlines()
    assert lines[1:] == [
        f"{LARGEST},1,-32768,True,a,0.1,ok",
        "587722981736120347,-2,-32767,False,,0.0,ok",
        ",3,,,,,off image",
    ]


def test_a_null_of_fits_is_no_value(written):
    header = fits.getheader(written(".fits"), 1)
    nulls = {header[f"TTYPE{k}"]: header.get(f"TNULL{k}") for k in range(1, 8)}
    assert nulls["near"] == -(2**15) + 2
    assert nulls["OBJID"] == -(2**63)
    assert header["TFORM2"] == "I"


@pytest.mark.parametrize("present", [[0, 1, 255], list(range(256))[:-1], [5]])
def test_nulls_of_bytes(tmp_path, present):
    values = np.ma.array(np.array([*present, 0], np.uint8), mask=[*[False] * len(present), True])
    WRITERS[".fits"](Table({"value": values}), tmp_path / "table.fits")
    assert Table.read(tmp_path / "table.fits")["value"].tolist() == [*present, None]


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
def test_missing_numbers_without_a_sign(tmp_path, kind):
    """Whose TNULL is of the stored value: an offset away from the value."""
    half = min(2 ** (8 * np.dtype(kind).itemsize - 1), LARGEST)
    table = Table({"value": np.ma.array(np.array([half, 5, 0], kind), mask=[0, 0, 1])})
    WRITERS[".fits"](table, tmp_path / "table.fits")
    assert Table.read(tmp_path / "table.fits")["value"].tolist() == [half, 5, None]
    header = fits.getheader(tmp_path / "table.fits", 1)
    assert ("TZERO1" in header, header["TNULL1"] < 0) == (False, True)


def test_numbers_that_fits_cannot_hold(tmp_path):
    values = np.array([2**64 - 1, 5], np.uint64)
    WRITERS[".fits"](Table({"value": values}), tmp_path / "whole.fits")
    assert Table.read(tmp_path / "whole.fits")["value"].tolist() == [2**64 - 1, 5]
    table = Table({"value": np.ma.array(values, mask=[False, True])})
    with pytest.raises(ValueError, match=r"above 2\*\*63 and missing ones"):
        WRITERS[".fits"](table, tmp_path / "table.fits")


def test_parquet_of_other_programs(tmp_path):
    pandas = require("pandas")
    require("pyarrow")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "id": [LARGEST, None]}, dtype=object)
    frame = frame.astype({"x": float, "id": "Int64"})
    frame["name"] = ["a", None]
    frame.to_parquet(tmp_path / "frame.parquet", index=False)
    table = read_catalog(tmp_path / "frame.parquet")
    assert table["id"].tolist() == [LARGEST, None]
    assert table["name"].tolist() == ["a", None]


def test_failed_rows_have_no_class(tmp_path):
    require("pyarrow")
    from pyarrow import parquet

    catalog = Table({"x": [20, 500], "y": [20, 5]})
    with pytest.warns(MorpheusWarning, match="1 of 2 rows have no result"):
        predict_catalog(
            lambda batch: np.tile([0.2, 0.8], (len(batch[0]), 1)),
            np.ones((40, 40)), catalog, 2, 8, (8, 8), columns=["argmax", "top"],
            out=tmp_path / "out.parquet", progress=False,
        )  # fmt: skip
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["argmax"].to_pylist() == [1, None]
    assert table["top_score"].to_pylist() == [pytest.approx(0.8), None]


ASCII_HEAD = """\
#   1 NUMBER                 Running object number
#   2 ALPHA_J2000            Right ascension of barycenter (J2000)   [deg]
#   3 DELTA_J2000            Declination of barycenter (J2000)       [deg]
#   4 X_IMAGE                Object position along x                 [pixel]
#   5 Y_IMAGE                Object position along y                 [pixel]
         1  53.0998023 -27.7998333     31.0000     21.0000
         2  53.0990486 -27.7993333     71.0000     51.0000
"""
GNUASTRO = """\
# -------------
# Column metadata
# -------------
# Column 1: OBJ_ID [counter,i32,] Object identifier.
# Column 2: X      [pixel  ,f32,] Flux weighted center (FITS axis 1).
# Column 3: Y      [pixel  ,f32,] Flux weighted center (FITS axis 2).
# Column 4: RA     [deg    ,f64,] Flux weighted center (WCS axis 1).
# Column 5: DEC    [deg    ,f64,] Flux weighted center (WCS axis 2).
1      31.000     21.000     53.0998023    -27.7998333
2      71.000     51.000     53.0990486    -27.7993333
"""
ANY = ((None, None), (None, None))


def ldac(path, images=1):
    columns = Table.read(ASCII_HEAD, format="ascii.sextractor")
    hdus = [fits.PrimaryHDU()]
    for _ in range(images):
        header = fits.BinTableHDU(Table({"Field Header Card": ["x" * 80]}), name="LDAC_IMHEAD")
        hdus += [header, fits.BinTableHDU(columns, name="LDAC_OBJECTS")]
    fits.HDUList(hdus).writeto(path)


@pytest.fixture(params=["head.cat", "ldac.cat", "ldac.fits", "gnuastro.txt", "gnuastro.fits"])
def catalogue(request, tmp_path):
    path = tmp_path / request.param
    if "ldac" in path.name:
        ldac(path)
    elif path.name == "gnuastro.fits":
        (tmp_path / "gnuastro.txt").write_text(GNUASTRO)
        table = read_catalog(tmp_path / "gnuastro.txt")
        WRITERS[".fits"](table, path)
        for number, name in enumerate(table.colnames, start=1):
            fits.setval(path, f"TCOMM{number}", value=table[name].description, ext=1)
    else:
        path.write_text(GNUASTRO if path.suffix == ".txt" else ASCII_HEAD)
    return path


def test_catalogues_of_other_programs(catalogue):
    table = read_catalog(catalogue)
    on_sky = find_positions(table, *ANY, None)
    assert on_sky.on_sky
    np.testing.assert_allclose(on_sky.first, [53.0998023, 53.0990486])
    names = ("X", "Y") if "gnuastro" in catalogue.name else ("X_IMAGE", "Y_IMAGE")
    pixels = find_positions(table, (None, None), names, None)
    np.testing.assert_allclose([pixels.first, pixels.second], [[30, 70], [20, 50]])
    as_said = find_positions(table, (None, None), names, 0)
    np.testing.assert_allclose(as_said.first, [31, 71])


def test_pixels_where_there_is_no_sky(catalogue):
    table = read_catalog(catalogue)
    table.remove_columns([name for name in table.colnames if name[:2] in ("RA", "DE", "AL")])
    np.testing.assert_allclose(find_positions(table, *ANY, None).first, [30, 70])


@pytest.mark.parametrize("kind", ["WIN", "PSF"])
def test_the_more_exact_positions_of_sextractor_are_preferred(kind):
    table = Table({"X_IMAGE": [1.0], "Y_IMAGE": [1.0]})
    table[f"X{kind}_IMAGE"], table[f"Y{kind}_IMAGE"] = [5.0], [6.0]
    assert find_positions(table, *ANY, None).first.tolist() == [4]
    table[f"ALPHA{kind}_J2000"], table[f"DELTA{kind}_J2000"] = [7.0], [8.0]
    assert find_positions(table, *ANY, None).first.tolist() == [7]


def test_windows_lie_where_sextractor_saw_the_object(tmp_path):
    image = np.zeros((80, 100), np.float32)
    image[20, 30], image[50, 70] = 1, 2
    (tmp_path / "head.cat").write_text(ASCII_HEAD)
    table = predict_catalog(
        lambda batch: batch[0][:, 2:3, 2, 0], image, tmp_path / "head.cat", 1, 8, (5, 5),
        x="X_IMAGE", y="Y_IMAGE", progress=False,
    )  # fmt: skip
    assert table["class_0"].tolist() == [1, 2]


def test_files_that_are_no_catalogues(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"must be a catalogue of SExtractor .* begins with"):
        read_catalog(tmp_path / "notes.txt")
    ldac(tmp_path / "two.cat", images=2)
    with pytest.raises(InputError, match="holds the objects of 2 images"):
        read_catalog(tmp_path / "two.cat")
    with pytest.raises(InputError, match="must end in one of"):
        read_catalog(tmp_path / "catalogue.xls")


def test_text_of_fits_is_text_in_parquet(tmp_path):
    require("pyarrow")
    from pyarrow import parquet

    table = Table({"name": MaskedColumn([b"M 31", b"M 33"], mask=[False, True])})
    WRITERS[".parquet"](table, tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet")["name"].to_pylist() == ["M 31", None]
