"""Catalogues as archives hand them out: their units, titles, missing values and compression."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table

from morpheus_core import InputError, predict_catalog
from morpheus_core.catalogs.positions import find_positions
from morpheus_core.catalogs.tables import read_catalog

SKY, PIXELS = (None, None), (None, None)


def positions_of(table):
    found = find_positions(table, SKY, PIXELS, 0)
    return np.array([found.first, found.second])


UNITS = {
    **dict.fromkeys(["DEGREE", "degrees", "Degrees", "[deg]", "deg.", "DEG", "degree"], 1),
    **dict.fromkeys(["RADIANS", "radian", "rad"], np.pi / 180),
    **dict.fromkeys(["hour", "HOURS", "hr", "h", "hourangle"], 1 / 15),
    **dict.fromkeys(["arcsec", "ARCSECONDS"], 3600),
}


@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
@pytest.mark.parametrize("kind", [Column, MaskedColumn])
@pytest.mark.parametrize("unit", UNITS)
def test_units_as_archives_spell_them(tmp_path, unit, kind):
    factor = UNITS[unit]
    table = Table(
        [kind([150 * factor, 15 * factor], "ra"), kind([3 * factor, -60 * factor], "dec")]
    )
    hdu = fits.BinTableHDU(table)
    hdu.header["TUNIT1"] = hdu.header["TUNIT2"] = unit
    hdu.writeto(tmp_path / "catalog.fits")
    found = positions_of(read_catalog(tmp_path / "catalog.fits"))
    np.testing.assert_allclose(found, [[150, 15], [3, -60]], rtol=1e-12)


def test_quantities_keep_their_unit():
    table = QTable({"ra": [10.0] * u.hourangle, "dec": [0.5] * u.rad})
    np.testing.assert_allclose(positions_of(table), [[150], [np.degrees(0.5)]])


def test_units_that_are_no_angles_say_what_to_do():
    table = Table({"ra": Column([1.0], unit="m"), "dec": [1.0]})
    with pytest.raises(InputError, match=r"column ra must hold numbers.*set the column's unit"):
        positions_of(table)


@pytest.mark.parametrize("unit", ["pix", "PIXEL", "pixels", "[pix]"])
@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
def test_units_of_pixels(unit):
    table = Table({"x": [1.0], "y": [2.0]})
    table["x"].unit = u.Unit(unit, parse_strict="silent")
    assert positions_of(table).tolist() == [[1], [2]]


@pytest.mark.parametrize("name", ["a.csv", "a.fits", "a.ecsv", "a.vot"])
def test_packed_tables(tmp_path, name):
    table = Table({"ra": [150.0], "dec": [2.0]})
    table.write(tmp_path / name, format="votable" if name.endswith(".vot") else None)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert positions_of(read_catalog(tmp_path / f"{name}.gz")).tolist() == [[150], [2]]


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "#Table1\nobjid,ra,dec\n1237648720693755918,150.0,2.0\n2,null,3.0\n",
        "source_id,ra,dec,parallax\n4,150.0,2.0,null\n5,null,3.0,0.1\n",
        "\ufeffra,dec\n150.0,2.0\n,3.0\n",
    ],
)
def test_text_as_archives_write_it(tmp_path, text, pack):
    name = "sky.csv.gz" if pack else "sky.csv"
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if pack else content)
    table = read_catalog(tmp_path / name)
    np.testing.assert_array_equal(positions_of(table), [[150, np.nan], [2, 3]])
    if "objid" in table.colnames:
        assert table["objid"][0] == 1237648720693755918


def test_a_header_that_begins_with_a_hash(tmp_path):
    (tmp_path / "a.csv").write_text("#id,ra,dec\n1,150,2\n")
    table = read_catalog(tmp_path / "a.csv")
    assert (table.colnames, len(table)) == (["#id", "ra", "dec"], 1)


def mean(batch):
    return batch[0].mean(axis=(1, 2))


@pytest.mark.parametrize("template", ["f-{id:05d}.fits", "f-{id}.fits"])
@pytest.mark.parametrize("missing", ["nan", "masked"])
def test_numbers_of_files_that_a_missing_one_made_floats(tmp_path, monkeypatch, template, missing):
    monkeypatch.chdir(tmp_path)
    for number in (7, 12):
        fits.writeto(template.format(id=number), np.full((9, 9), float(number)))
    ids = np.array([12.0, np.nan, 7.0])
    if missing == "masked":
        ids = MaskedColumn([12.0, 0.5, 7.0], mask=[False, True, False])
    table = Table({"id": ids, "x": [4.0] * 3, "y": [4.0] * 3})
    with pytest.warns(match="1 of 3"):
        found = predict_catalog(mean, template, table, 1, 4, (3, 3), progress=False)
    np.testing.assert_array_equal(found["class_0"], [12, np.nan, 7])


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("below/{name}.fits", {"name": "../secret"}),
        ("below/{a}{b}/secret.fits", {"a": ".", "b": "."}),
        ("below/{a}/{b}.fits", {"a": "..", "b": "secret"}),
    ],
)
def test_values_do_not_lead_upwards(tmp_path, monkeypatch, template, row):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    fits.writeto("secret.fits", np.ones((9, 9), "f4"))
    table = Table({name: [value] for name, value in {**row, "x": 4.0, "y": 4.0}.items()})
    with pytest.raises(InputError, match=r'must not lead upwards by "\.\.", got .*secret\.fits'):
        predict_catalog(mean, template, table, 1, 4, (3, 3), progress=False)


@pytest.mark.parametrize(
    ("template", "name"), [("../{name}.fits", "open"), ("{name}.fits", "a..b")]
)
def test_templates_may_lead_upwards(tmp_path, monkeypatch, template, name):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    fits.writeto(template.format(name=name), np.ones((9, 9), "f4"))
    table = Table({"name": [name], "x": [4.0], "y": [4.0]})
    found = predict_catalog(mean, template, table, 1, 4, (3, 3), progress=False)
    assert list(found["class_0"]) == [1]
