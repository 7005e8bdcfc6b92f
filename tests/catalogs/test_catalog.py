"""Catalogues of all kinds in, tables of all kinds out, and rows that have no result."""

import bz2
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import InputError, ModelError, MorpheusWarning, OutputError, columns
from morpheus_core import predict_catalog as package_predict_catalog
from morpheus_core.catalogs.formats import PACKAGES
from morpheus_core.errors import MissingPackageError
from morpheus_core.images.expansion import expand
from morpheus_core.images.fits_images import FitsImage

IMAGE = np.arange(30 * 41.0, dtype="f4").reshape(30, 41)


def pixel_and_mean(batch):
    """Score whole windows: their first pixel and their mean."""
    pixels = batch[0][..., 0]
    return np.stack([pixels[:, 0, 0], pixels.mean(axis=(1, 2))], axis=1)


def predict_catalog(model, catalog, n_classes=2, inputs=IMAGE, shape=(3, 3), **options):
    options = {"progress": False, **options}
    return package_predict_catalog(model, inputs, catalog, n_classes, 4, shape, **options)


@pytest.fixture
def catalog():
    random = np.random.default_rng(4)
    return Table(
        {
            "OBJID": 587722981736120347 + np.arange(23),
            "x": random.uniform(2, 38, 23),
            "Y": random.uniform(2, 27, 23),
            "name": [f"NGC {k}" for k in range(23)],
        }
    )


@pytest.fixture
def expected(catalog):
    tops, lefts = (np.ceil(catalog[name] - 1.5).astype(int) for name in ("Y", "x"))
    return IMAGE[tops, lefts]


def test_rows_keep_their_order_and_columns(catalog, expected):
    table = predict_catalog(pixel_and_mean, catalog, class_names=["first", "mean"])
    assert table.colnames == ["OBJID", "x", "Y", "name", "first", "mean", "status"]
    assert_array_equal(table["first"], expected)
    assert table["first"].dtype == np.float32
    for name in catalog.colnames:
        assert_array_equal(table[name], catalog[name])
    assert catalog.colnames == ["OBJID", "x", "Y", "name"]


def test_fits_counts_pixels_from_one(catalog, expected):
    catalog["x"] += 1
    catalog["Y"] += 1
    assert_array_equal(predict_catalog(pixel_and_mean, catalog, origin=1)["class_0"], expected)


def test_only_some_columns_are_kept(catalog):
    assert predict_catalog(pixel_and_mean, catalog, keep=["OBJID"]).colnames == [
        "OBJID",
        "class_0",
        "class_1",
        "status",
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.ecsv", "a.fits", "a.xml", "a.parquet"])
def test_catalogues_are_read_from_files(catalog, expected, tmp_path, name):
    if name.endswith("parquet"):
        for package in PACKAGES[".parquet"]:
            require(package)
    written = {"csv": "ascii.csv", "xml": "votable"}.get(name.split(".")[1])
    catalog.write(tmp_path / name, format=written)
    table = predict_catalog(pixel_and_mean, tmp_path / name)
    assert_array_equal(table["class_0"], expected)
    assert_array_equal(table["OBJID"], catalog["OBJID"])


def test_catalogues_are_data_frames(catalog, expected):
    require("pandas")
    assert_array_equal(predict_catalog(pixel_and_mean, catalog.to_pandas())["class_0"], expected)


def test_the_index_of_a_data_frame_is_a_column_if_it_has_a_name(catalog):
    require("pandas")
    frame = catalog.to_pandas()
    assert "index" not in predict_catalog(pixel_and_mean, frame).colnames
    table = predict_catalog(pixel_and_mean, frame.set_index("OBJID"))
    assert_array_equal(table["OBJID"], catalog["OBJID"])


def test_spreadsheets_mark_the_begin_of_a_file(catalog, expected, tmp_path):
    path = tmp_path / "a.csv"
    catalog["x", "Y"].write(path)
    path.write_text(path.read_text(), "utf-8-sig")
    assert_array_equal(predict_catalog(pixel_and_mean, path)["class_0"], expected)


def test_pixels_may_have_their_unit(catalog, expected):
    catalog["x"] = catalog["x"] * u.pix
    assert_array_equal(predict_catalog(pixel_and_mean, QTable(catalog))["class_0"], expected)


def test_data_frames_need_columns_with_names():
    frame = require("pandas").DataFrame(np.ones((3, 2)))
    with pytest.raises(InputError, match="cannot be made a table of astropy: KeyError"):
        predict_catalog(pixel_and_mean, frame)


@pytest.mark.parametrize("missing", PACKAGES[".parquet"])
def test_parquet_without_what_reads_it(tmp_path, monkeypatch, missing):
    monkeypatch.setattr("morpheus_core.extras.find_spec", lambda name: name != missing or None)
    with pytest.raises(MissingPackageError, match=rf"parquet needs {missing}, .*\.\[catalog\]"):
        predict_catalog(pixel_and_mean, tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.csv", "a.ecsv", "a.fits", "a.parquet"])
def test_tables_are_written_once(catalog, expected, tmp_path, name):
    if name.endswith("parquet"):
        for package in PACKAGES[".parquet"]:
            require(package)
    catalog["x"] = MaskedColumn(catalog["x"], mask=np.arange(23) == 7)
    with pytest.warns(MorpheusWarning, match="1 of 23 rows have no result: 22 ok, 1 no position"):
        predict_catalog(pixel_and_mean, catalog, out=tmp_path / name, columns=["classes", "top"])
    found = Table.read(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    there = np.arange(23) != 7
    assert_array_equal(found["class_0"][there], expected[there])
    assert np.isnan(np.ma.filled(found["class_0"], np.nan)[7])
    assert [*found["OBJID"]] == [*catalog["OBJID"]]
    assert found["status"][7] == "no position"
    with pytest.raises(OutputError, match="exists already; pass overwrite=True"):
        predict_catalog(pixel_and_mean, catalog, out=tmp_path / name)


def test_a_catalogue_may_be_empty(catalog):
    table = predict_catalog(pixel_and_mean, catalog[:0], columns=["classes", "top"])
    assert len(table) == 0
    assert table.colnames[-5:] == ["class_0", "class_1", "top", "top_score", "status"]


def test_quantities_and_coordinates_survive(tmp_path):
    sky = SkyCoord([10, 11], [20, 21], unit="deg")
    catalog = QTable({"x": [5.0, 6], "y": [7.0, 8], "where": sky, "flux": [1, 2] * u.mJy})
    table = predict_catalog(pixel_and_mean, catalog, x="x", y="y", out=tmp_path / "a.ecsv")
    assert isinstance(table, QTable)
    found = QTable.read(tmp_path / "a.ecsv")
    assert_array_equal(found["where"].ra, sky.ra)
    assert_array_equal(found["flux"], catalog["flux"])


class TestRowsWithoutResult:
    @pytest.fixture
    def table(self):
        image = IMAGE.copy()
        image[20:, :10] = np.nan
        image[5, 30] = np.nan
        catalog = Table({"x": [3.0, 99, np.nan, 4, 30, 12], "y": [3.0, 3, 3, 25, 5, 12]})
        with pytest.warns(MorpheusWarning, match="4 of 6 rows have no result"):
            return predict_catalog(
                pixel_and_mean, catalog, inputs=image, columns=["classes", "top"]
            )

    def test_they_say_why(self, table):
        assert [*table["status"]] == [
            "ok", "off image", "no position", "blank", "not finite", "ok",
        ]  # fmt: skip

    def test_they_have_no_values(self, table):
        without = np.array(table["status"]) != "ok"
        for name in ("class_0", "class_1", "top_score"):
            assert_array_equal(np.isnan(table[name]), without)
        assert_array_equal(table["top"].mask, without)

    def test_the_model_does_not_see_blank_windows(self):
        image = IMAGE.copy()
        image[:, :20] = np.nan
        catalog = Table({"x": np.arange(2.0, 38), "y": np.full(36, 9.0)})
        seen = []

        def model(batch):
            seen.append(len(batch[0]))
            return batch[0][:, 2, 2]

        with pytest.warns(MorpheusWarning, match="17 blank"):
            predict_catalog(model, catalog, 1, image)
        assert sum(seen) == 19


class TestModelsOfPixels:
    catalog = Table({"x": [10.2, 0.0, 40.3, 20.5], "y": [10.9, 0.0, 29.4, 12.0]})

    @staticmethod
    def same(batch):
        return np.concatenate([batch[0], -batch[0]], axis=-1)

    @pytest.mark.parametrize("edges", ["shift", "pad"])
    def test_the_pixel_at_the_position_counts(self, edges):
        table = predict_catalog(self.same, self.catalog, shape=(6, 5), edges=edges)
        expected = IMAGE[[11, 0, 29, 12], [10, 0, 40, 20]]
        assert_array_equal(table["class_0"], expected)
        assert_array_equal(table["class_1"], -expected)

    @pytest.mark.parametrize("edges", ["shift", "pad"])
    def test_the_mean_in_an_aperture(self, edges):
        """Pixels by which the image is continued do not count."""
        table = predict_catalog(self.same, self.catalog, shape=(9, 8), aperture=2.2, edges=edges)
        rows, columns = np.indices(IMAGE.shape)
        for x, y, mean in table.iterrows("x", "y", "class_0"):
            assert mean == pytest.approx(
                IMAGE[(rows - y) ** 2 + (columns - x) ** 2 <= 2.2**2].mean()
            )

    def test_a_small_aperture_holds_the_nearest_pixel(self):
        table = predict_catalog(self.same, self.catalog, shape=(6, 5), aperture=0.01)
        assert_array_equal(table["class_0"], IMAGE[[11, 0, 29, 12], [10, 0, 40, 20]])

    def test_models_of_windows_have_no_aperture(self):
        with pytest.raises(ModelError, match="aperture=2 needs a model of pixels"):
            predict_catalog(pixel_and_mean, self.catalog, shape=(5, 5), aperture=2)

    @pytest.mark.parametrize(("shape", "aperture"), [((5, 9), 2.5), ((4, 6), 2)])
    def test_an_aperture_lies_within_the_window(self, shape, aperture):
        """What lies beyond would be left out of the mean, without a word."""
        with pytest.raises(InputError, match="aperture must be less than half of window_shape"):
            predict_catalog(self.same, self.catalog, shape=shape, aperture=aperture)

    @pytest.mark.parametrize("axes", [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)])
    def test_one_class_needs_no_axis(self, axes):
        def model(batch):
            whole = batch[0][:, 1, 1, 0]
            return {1: whole, 2: whole[:, None], 3: batch[0][..., 0], 4: batch[0]}[len(axes)]

        table = predict_catalog(model, self.catalog[:1], 1)
        assert table["class_0"][0] == IMAGE[11, 10]


class TestDerivedColumns:
    centres = np.linspace(0, 0.4, 100, endpoint=False) + 0.002
    random = np.random.default_rng(5)
    scores = random.dirichlet(np.full(100, 0.2), 8)

    def values(self, *wanted, scores=None, **options):
        scores = self.scores if scores is None else scores
        catalog = Table({"x": np.arange(len(scores)), "y": np.zeros(len(scores))})
        return predict_catalog(
            lambda batch: scores[batch[0][:, 0, 0, 0].astype(int)],
            catalog, scores.shape[1], np.arange(50.0)[None], (1, 1), columns=wanted,
            output_dtype="float64", **options,
        )  # fmt: skip

    def test_argmax_top_and_entropy(self):
        scores = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25]])
        table = self.values("argmax", columns.top, "entropy", scores=scores, class_names=[*"abc"])
        assert [*table["argmax"]] == [1, 0]
        assert [*table["top"]] == ["b", "a"]
        assert [*table["top_score"]] == [0.8, 0.5]
        expected = [-0.2 * np.log(0.2) - 0.8 * np.log(0.8), 1.5 * np.log(2)]
        assert_allclose(table["entropy"], expected)

    def test_moments_of_a_distribution(self):
        table = self.values(columns.expected_value(self.centres), columns.std(self.centres))
        mean = self.scores @ self.centres
        assert_allclose(table["expected_value"], mean)
        square = self.scores @ self.centres**2
        assert_allclose(table["std"], np.sqrt(square - mean**2), rtol=1e-9)

    def test_quantiles_are_those_of_a_sample(self):
        table = self.values(columns.quantiles(0.16, 0.5, 0.84, bin_centres=self.centres))
        for row, scores in zip(table, self.scores, strict=True):
            bins = self.random.choice(100, 400_000, p=scores)
            sample = self.centres[bins] + self.random.uniform(-0.002, 0.002, len(bins))
            below = [(sample < row[name]).mean() for name in ("q0.16", "q0.5", "q0.84")]
            assert_allclose(below, [0.16, 0.5, 0.84], atol=0.004)

    def test_the_ends_of_the_outer_bins(self):
        table = self.values(columns.quantiles(0, 1, bin_centres=self.centres))
        assert_allclose([table["q0"][0], table["q1"][0]], [0, 0.4], atol=1e-12)

    @pytest.mark.parametrize("centres", ["ab", [[1, 2], [3]], [1], [2, 1], [1, np.inf], 5, None])
    def test_bins_that_cannot_be(self, centres):
        with pytest.raises(InputError, match="bin_centres must be increasing numbers"):
            columns.std(centres)

    @pytest.mark.parametrize(
        ("shares", "message"), [((), "at least one"), ((1.1,), ">= 0 and <= 1, got 1.1")]
    )
    def test_quantiles_that_cannot_be(self, shares, message):
        with pytest.raises(InputError, match=message):
            columns.quantiles(*shares, bin_centres=self.centres)

    def test_scores_that_are_no_distribution_have_no_moments(self):
        with pytest.warns(MorpheusWarning, match="1 of 1 rows have no result: 1 not finite"):
            table = self.values("argmax", columns.std([0, 1]), scores=np.zeros((1, 2)))
        assert np.isnan(table["std"]).all()
        assert table["argmax"].mask.all()

    def test_rounding_below_zero_is_no_error(self):
        table = self.values("classes", "entropy", scores=np.array([[0.4, 0.60000005, -5e-8]]))
        assert_allclose(table["entropy"], 0.673, atol=1e-3)
        assert table["status"][0] == "ok"

    @pytest.mark.parametrize("scores", [[15.0, 7, 6], [5.0, 1, -5], [0.2, 0.2, 0.2]])
    @pytest.mark.parametrize("column", ["entropy", columns.std([1, 2, 3])])
    def test_scores_that_are_no_probabilities_are_refused(self, scores, column):
        with pytest.raises(InputError, match=r'2 of 2 rows .* lack activation="softmax"'):
            self.values("argmax", column, scores=np.array([scores, scores]))
        with pytest.raises(ModelError, match=r'first 32 rows .* lack activation="softmax"'):
            self.values("argmax", column, scores=np.array([scores] * 33))
        assert self.values("argmax", scores=np.array([scores]))["argmax"][0] == np.argmax(scores)

    def test_single_rows_without_probabilities_stop_no_others(self):
        with pytest.warns(MorpheusWarning, match="1 of 2 rows .* 1 no probabilities"):
            table = self.values("entropy", scores=np.array([[0.2, 0.2, 0.2], [0.1, 0.2, 0.7]]))
        assert list(table["status"]) == ["no probabilities", "ok"]
        assert list(np.isfinite(table["entropy"])) == [False, True]

    def test_columns_may_be_named(self):
        wanted = [
            columns.expected_value(self.centres, name="Z"),
            columns.expected_value(2 * self.centres, name="Z2"),
            columns.std(self.centres, name="DZ"),
            columns.quantiles(0.5, bin_centres=self.centres, name="Z_Q"),
        ]
        table = self.values(*wanted)
        assert table.colnames[2:-1] == ["Z", "Z2", "DZ", "Z_Q0.5"]
        assert_allclose(table["Z2"], 2 * table["Z"])
        with pytest.raises(InputError, match="name must be the name of a column, got ''"):
            columns.std(self.centres, name="")


class TestNoRowOnAnyImage:
    """One mistake is the cause, and a file without a single answer would hide it."""

    @pytest.mark.parametrize(
        ("inputs", "x", "message"),
        [
            (IMAGE, 900.0, r'got 2 of 3 rows with status "off image"; are positions ICRS'),
            ("{x}.fits", 5.0, r'got 2 of 3 rows with status "missing file"; is the template right'),
        ],
    )
    def test_is_an_error(self, tmp_path, monkeypatch, inputs, x, message):
        monkeypatch.chdir(tmp_path)
        catalog = Table({"x": [x, x, np.nan], "y": [3.0, 3, 3]})
        with pytest.raises(InputError, match=message):
            predict_catalog(pixel_and_mean, catalog, inputs=inputs, out="a.csv")
        assert [*tmp_path.iterdir()] == []

    def test_is_an_error_of_other_processes_too(self, tmp_path):
        catalog = Table({"x": [900.0] * 3, "y": [3.0] * 3})
        fits.writeto(tmp_path / "image.fits", IMAGE)
        with pytest.raises(InputError, match='got 3 of 3 rows with status "off image"'):
            predict_catalog(
                pixel_and_mean, catalog, inputs=tmp_path / "image.fits", cpus=2,
                out=tmp_path / "a.csv",
            )  # fmt: skip
        assert [path.name for path in tmp_path.iterdir()] == ["image.fits"]

    def test_is_none_where_pixels_are_blank(self):
        blank = np.full((9, 9), np.nan)
        with pytest.warns(MorpheusWarning, match="1 of 1 rows have no result: 1 blank"):
            predict_catalog(pixel_and_mean, Table({"x": [4], "y": [4]}), inputs=blank)


def test_the_table_says_how_it_came_about(catalog, tmp_path):
    fits.writeto(tmp_path / "image.fits", IMAGE)
    catalog.meta["SURVEY"] = "ours"
    path = tmp_path / "image.fits"
    predict_catalog(
        pixel_and_mean, catalog, inputs=[path, IMAGE], shape=(3, 5), out=tmp_path / "a.fits"
    )
    meta = Table.read(tmp_path / "a.fits").meta
    assert meta["CREATOR"].startswith("morpheus_core ")
    assert meta["MODEL"] == "test_catalog.pixel_and_mean"
    assert (meta["INPUT0"], meta["INPUT1"]) == (str(path), "ndarray")
    assert (meta["WINDOW"], meta["EDGES"], meta["SURVEY"]) == ("3 x 5", "shift", "ours")
    assert (meta["BANDS"], meta["APERTURE"]) == ("last", "none")
    assert "MODEL" not in catalog.meta


def test_a_network_of_pytorch_is_wrapped(catalog, tmp_path):
    network = require("torch").nn.Conv2d(1, 2, 3)
    for options in ({}, {"work_dir": tmp_path / "work"}):
        with pytest.raises(ModelError, match=r"model returned .* for n_classes="):
            predict_catalog(network, catalog, **options)


def test_imports_nothing_that_is_slow():
    code = (
        "import sys, morpheus_core; "
        "assert not {'astropy.table', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": "wrap"}, "edges must be one of 'shift', 'pad', 'skip'"),
        ({"padding": "reflect"}, 'padding needs edges="pad"'),
        ({"ra": "x"}, "must have one column dec"),
        ({"ra": "x", "y": "Y"}, "give ra and dec, or x and y, not both"),
        ({"x": "X", "y": "height"}, "must have one column height"),
        ({"x": "name", "y": "Y"}, "the column name must hold numbers"),
        ({"origin": 2}, "origin must be 0 or 1, got 2"),
        ({"aperture": -1}, "aperture must be a finite number > 0"),
        ({"columns": ["best"]}, "columns must be of classes, argmax, top, entropy"),
        ({"columns": []}, "columns must be at least one"),
        ({"columns": [columns.std([1, 2, 3])]}, "bin_centres must be 2 numbers"),
        ({"class_names": ["x", "z"]}, "columns of the result must differ, got x beside x"),
        ({"class_names": ["a", "Status"]}, "must differ, got status beside Status"),
        ({"keep": ["y"]}, "keep must be a list of columns of the catalogue"),
        ({"cpus": 2}, "need out or work_dir"),
        ({"resume": True}, "need out or work_dir"),
        ({"out": "a.txt"}, "out must end in one of .csv"),
        ({"out": "/nowhere/a.csv"}, "out must be in a folder that exists"),
        ({"bands": ["u", "g"]}, 'bands must be "last" or "first" without a template'),
        ({"keep": []}, "keep must be a list of columns of the catalogue"),
        ({"x": "angle", "y": "Y"}, "must have no unit, or pixel, got arcsec for angle"),
        ({"keep": "x"}, "keep must be a list of columns of the catalogue"),
        ({"keep": 5}, "keep must be a list of columns of the catalogue"),
        ({"ra": 5}, "must have one column 5"),
        ({"x": "matrix", "y": "Y"}, r"matrix must be one value per row, got columns of \(2,\)"),
        ({"overwrite": None}, "overwrite must be True or False"),
        ({"bands": None}, "bands must be one of 'last', 'first'"),
        ({"inputs": "frame-{run}.fits"}, "must name columns of the catalogue, .* got 'run'"),
        ({"inputs": "{matrix}.fits"}, "of one value per row, got 'matrix'"),
        ({"inputs": "frame-{OBJID}-{}.fits"}, "must name columns of the catalogue, .* got ''"),
        ({"inputs": "frame-{OBJID.real}.fits"}, "got 'OBJID.real'"),
        ({"inputs": "frame-{name[0]}.fits"}, r"got 'name\[0\]'"),
        ({"inputs": "{OBJID:{x}}.fits"}, "must not have braces within braces, got OBJID:"),
        ({"inputs": "{OBJID!x}.fits"}, "must fit the values of OBJID: Unknown conversion"),
        ({"inputs": "{OBJID}-{.fits"}, "must have names in braces"),
        ({"inputs": "{OBJID}-{band}.fits"}, r"need each other, got \{band\} and no list"),
        (
            {"inputs": "{OBJID}-{band}.fits", "bands": "ur"},
            r"bands of a template must be a list, \['u', 'r'\], got 'ur'",
        ),
        ({"inputs": "{name:06d}.fits"}, "must fit the values of name"),
        ({"inputs": ["{OBJID}.fits", IMAGE]}, "must all be templates"),
        ({"inputs": IMAGE[:2]}, "must not be smaller than a window"),
        ({"inputs": [IMAGE, IMAGE[1:]]}, "positions in pixels need inputs of the same height"),
        ({"x": "x", "y": "Y", "inputs": "a.fits"}, "no such file"),
    ],
)
def test_arguments_that_cannot_be(catalog, options, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    catalog["matrix"] = np.zeros((23, 2))
    catalog["angle"] = np.ones(23) * u.arcsec
    with pytest.raises(InputError, match=message):
        predict_catalog(pixel_and_mean, catalog, **options)
    assert [*tmp_path.iterdir()] == []


def test_sky_positions_need_world_coordinates():
    with pytest.raises(InputError, match="celestial world coordinates, and model_inputs"):
        predict_catalog(pixel_and_mean, Table({"ra": [1.0], "dec": [2.0]}))


@pytest.mark.parametrize("catalog", ["a.csv", "a.dat", 5, "damaged.fits"])
def test_catalogues_that_cannot_be_read(catalog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.fits").write_bytes(b"SIMPLE  = nothing else" * 500)
    with pytest.raises(InputError, match=r"catalog(ue)? .*(cannot be read|must)"):
        predict_catalog(pixel_and_mean, catalog)


def test_columns_that_cannot_be_written_are_refused_before_the_run(catalog, tmp_path):
    catalog["image"] = np.zeros((23, 2, 2))
    with pytest.raises(InputError, match=r"written to .*a\.csv \(columns: image\):"):
        predict_catalog(pixel_and_mean, catalog, out=tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("a.fits", {"columns": [columns.std([1, 2], name="σ")]}, r"\(columns: σ\)"),
        ("a.fits", {"n_classes": 1000}, r"\(columns: all of them\)"),
    ],
)
def test_results_that_cannot_be_written_are_refused_before_the_run(
    catalog, tmp_path, out, options, message
):
    with pytest.raises(InputError, match=message):
        predict_catalog(pytest.fail, catalog, out=tmp_path / out, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [251, 300])
def test_names_that_cannot_be(catalog, tmp_path, length):
    with pytest.raises(OutputError, match=r"csv cannot be made: File name too long"):
        predict_catalog(pytest.fail, catalog, out=tmp_path / f"{length * 'b'}.csv")


def test_places_must_differ(catalog, tmp_path):
    with pytest.raises(InputError, match="another place than out"):
        predict_catalog(pytest.fail, catalog, out=tmp_path / "a.csv", work_dir=tmp_path / "a.csv")


@pytest.mark.parametrize("keep", [["x", "x"], [["x"]], ["z"], "x"])
def test_columns_that_cannot_be_kept(catalog, keep):
    with pytest.raises(InputError, match="keep must be a list of columns"):
        predict_catalog(pytest.fail, catalog, keep=keep)


def test_results_share_no_memory_with_the_catalogue(catalog):
    before = catalog.copy()
    table = predict_catalog(pixel_and_mean, catalog)
    table["x"] += 1
    assert_array_equal(catalog["x"], before["x"])


def test_bands_that_seem_to_be_elsewhere(tmp_path):
    cube = np.zeros((4, 30, 41), "f4")
    catalog = Table({"n": [1, 1], "x": [1.0, 5], "y": [1, 2]})
    fits.writeto(tmp_path / "1.fits", cube)
    for inputs in (cube, str(tmp_path / "{n}.fits")):
        with pytest.warns(MorpheusWarning, match='is read as 4 rows.* pass bands="first"'):
            predict_catalog(lambda batch: batch[0][:, 0, 0, :2], catalog, inputs=inputs)


@pytest.mark.parametrize("edges", ["shift", "pad"])
def test_padding_hides_no_blank_windows(edges):
    image = IMAGE.copy()
    image[:20] = np.nan
    catalog = Table({"x": [1, 20, 20], "y": [1, 3, 28]})
    with pytest.warns(MorpheusWarning, match="1 ok, 2 blank"):
        table = predict_catalog(pixel_and_mean, catalog, inputs=image, shape=(5, 5), edges=edges)
    assert list(table["status"]) == ["blank", "blank", "ok"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda batch: batch[0][:, 0, 0, :],
            r"returned \(4, 1\) for n_classes=2; expected \(4, 2\)",
        ),
        (
            lambda batch: 1 / 0,
            r"ZeroDivisionError.*\(4, 3, 3, 1\) float32.*row.s. .*, .* of the catalogue",
        ),
        ("no_such_module:make", "no_such_module:make failed"),
    ],
)
def test_models_that_fail(catalog, model, message):
    with pytest.raises(ModelError, match=message):
        predict_catalog(model, catalog)


class TestFilesThatAreRead:
    """None of them is ever replaced or lost."""

    def test_the_catalogue_is_not_replaced(self, catalog, tmp_path):
        path = tmp_path / "catalog.csv"
        catalog.write(path)
        with pytest.raises(OutputError, match="would replace the input"):
            predict_catalog(pixel_and_mean, path, out=path, overwrite=True)

    def test_files_beside_the_result_are_left_alone(self, catalog, tmp_path):
        path = tmp_path / "catalog.part.csv"
        catalog.write(path)
        before = path.read_bytes()
        predict_catalog(pixel_and_mean, path, out=tmp_path / "catalog.csv")
        assert path.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["catalog.csv", path.name]

    def test_frames_are_not_replaced(self, tmp_path):
        fits.writeto(tmp_path / "frame-1.fits", IMAGE)
        rows = Table({"run": [1], "x": [9], "y": [9]})
        template = str(tmp_path / "frame-{run}.fits")
        out = tmp_path / "frame-1.fits"
        with pytest.raises(OutputError, match="would replace the input"):
            predict_catalog(pixel_and_mean, rows, inputs=template, out=out, overwrite=True)

    @pytest.mark.parametrize("name", ["x" * 300, "x\0y", None])
    def test_a_hostile_name_stops_nothing(self, tmp_path, name):
        fits.writeto(tmp_path / "good.fits", IMAGE)
        rows = Table({"file": np.array(["good", name], object), "x": [9, 9], "y": [9, 9]})
        with pytest.warns(MorpheusWarning, match="1 of 2 rows"):
            table = predict_catalog(
                pixel_and_mean, rows, inputs=str(tmp_path / "{file}.fits"), work_dir=tmp_path / "w"
            )
        assert [*table["status"]] == ["ok", "missing file"]

    def test_a_field_that_begins_like_band_is_a_column(self, tmp_path):
        fits.writeto(tmp_path / "i.fits", IMAGE)
        rows = Table({"bandpass": ["i"], "x": [9], "y": [9]})
        table = predict_catalog(pixel_and_mean, rows, inputs=str(tmp_path / "{bandpass}.fits"))
        assert [*table["status"]] == ["ok"]

    @pytest.mark.parametrize(
        ("field", "file"), [("{run id}", "7"), ("{run.id:02d}", "07"), ("{band!r}", "'i'")]
    )
    def test_names_of_columns_may_hold_anything(self, tmp_path, field, file):
        fits.writeto(tmp_path / f"{file}.fits", IMAGE)
        rows = Table({"run id": [7], "run.id": [7], "x": [9], "y": [9]})
        table = predict_catalog(
            pixel_and_mean, rows, inputs=str(tmp_path / f"{field}.fits"),
            bands=["i"] if "band" in field else "last",
        )  # fmt: skip
        assert [*table["status"]] == ["ok"]

    def test_folders_may_have_braces(self, tmp_path, monkeypatch):
        folder = tmp_path / "{old}"
        folder.mkdir()
        fits.writeto(folder / "7.fits", IMAGE)
        rows = Table({"run": [7], "x": [9], "y": [9]})
        with pytest.raises(InputError, match=r"got 'old', .* braces .* doubled"):
            predict_catalog(pixel_and_mean, rows, inputs=str(folder / "{run}.fits"))
        doubled = str(tmp_path / "{{old}}" / "{run}.fits")
        assert predict_catalog(pixel_and_mean, rows, inputs=doubled)["status"] == ["ok"]
        monkeypatch.chdir(folder)
        assert predict_catalog(pixel_and_mean, rows, inputs="{run}.fits")["status"] == ["ok"]
        assert predict_catalog(pixel_and_mean, rows, inputs="7.fits")["status"] == ["ok"]

    def test_templates_may_be_longer_than_names(self, tmp_path):
        fits.writeto(tmp_path / "7.fits", IMAGE)
        name = "n" * 250
        rows = Table({name: [7], "x": [9], "y": [9]})
        template = str(tmp_path / f"{{{name}!s:0>1}}.fits")
        assert predict_catalog(pixel_and_mean, rows, inputs=template)["status"] == ["ok"]

    def test_text_that_fits_cannot_hold_is_refused_before_the_run(self, catalog, tmp_path):
        catalog["name"] = ["plain", *["Ångström"] * 22]
        with pytest.raises(
            InputError, match=r"cannot be written to .*out\.fits \(columns: name\):"
        ):
            predict_catalog(pixel_and_mean, catalog, out=tmp_path / "out.fits")


class TestFilesOfEachRow:
    """Templates, of frames with two bands."""

    @pytest.fixture
    def folder(self, tmp_path):
        for run in (94, 125):
            for band in "gr":
                path = tmp_path / f"frame-{band}-{run:06d}.fits.bz2"
                hdu = fits.PrimaryHDU(IMAGE + 10_000 * run + (0.5 if band == "r" else 0))
                hdu.writeto(path)
        (tmp_path / "frame-g-000007.fits.bz2").write_bytes(b"")
        (tmp_path / "frame-r-000007.fits.bz2").write_bytes(b"")
        whole = (tmp_path / "frame-g-000094.fits.bz2").read_bytes()
        (tmp_path / "frame-g-000008.fits.bz2").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "frame-r-000008.fits.bz2").write_bytes(whole)
        short = bz2.compress(bz2.decompress(whole)[:4000])
        (tmp_path / "frame-g-000009.fits.bz2").write_bytes(short)
        (tmp_path / "frame-r-000009.fits.bz2").write_bytes(whole)
        return tmp_path

    @pytest.fixture
    def frames(self):
        random = np.random.default_rng(6)
        runs = random.permutation([94] * 7 + [125] * 6 + [7, 8, 9, 10])
        return Table(
            {"run": runs, "x": random.integers(2, 38, 17), "y": random.integers(2, 28, 17)}
        )

    def run(self, folder, frames, **options):
        template = str(folder / "frame-{band}-{run:06d}.fits.bz2")
        options = {"bands": ["g", "r"], "shape": (1, 1), **options}
        return predict_catalog(
            lambda batch: np.concatenate([window[:, 0, 0, :] for window in batch], -1),
            frames, 2, template, output_dtype="float64", **options,
        )  # fmt: skip

    def test_each_row_is_cut_from_its_files(self, folder, frames):
        with pytest.warns(MorpheusWarning, match="13 ok, 1 missing file, 3 unreadable file"):
            table = self.run(folder, frames)
        good = np.isin(frames["run"], [94, 125])
        values = IMAGE[frames["y"], frames["x"]] + 10_000.0 * frames["run"]
        assert_array_equal(table["class_0"][good], values[good])
        assert_array_equal(table["class_1"][good], values[good] + 0.5)
        statuses = dict(zip(frames["run"], table["status"], strict=True))
        assert statuses == {94: "ok", 125: "ok", 7: "unreadable file", 8: "unreadable file",
                            9: "unreadable file", 10: "missing file"}  # fmt: skip

    def test_each_file_is_opened_once_and_closed(self, folder, frames, monkeypatch):
        """But for the first ones, whose sky positions are compared before the run."""
        opened, most = [], []

        class Image(FitsImage):
            def __init__(self, path, *arguments):
                opened.append(path.name)
                most.append(path.name)
                super().__init__(path, *arguments)

            def close(self):
                most.append(None)
                super().close()

        monkeypatch.setattr("morpheus_core.catalogs.sources.FitsImage", Image)
        self.run(folder, frames[np.isin(frames["run"], [94, 125])], prefetch=0)
        assert opened[:2] == opened[2:4]
        assert len(opened[2:]) == len(set(opened)) == 4
        assert [name is None for name in most] == [False, False, True, True] * 3

    def test_each_file_is_unpacked_once_for_all_its_images(self, tmp_path, monkeypatch):
        """But for the first one, as above."""
        unpacked = []

        def noted(path):
            unpacked.append(path.name)
            return expand(path)

        monkeypatch.setattr("morpheus_core.images.expansion.expand", noted)
        for n in (1, 2):
            hdus = [fits.ImageHDU(IMAGE + 10_000 * n + 5_000 * ccd) for ccd in range(2)]
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / f"{n}.fits.bz2")
        catalog = Table({"ccd": [1, 1, 2, 2], "n": [1, 2, 1, 2], "x": [9] * 4, "y": [9] * 4})
        template = str(tmp_path / "{n}.fits.bz2[{ccd}]")
        table = predict_catalog(lambda batch: batch[0][:, 0, 0], catalog, 1, template, (1, 1))
        assert unpacked == ["1.fits.bz2", "1.fits.bz2", "2.fits.bz2"]
        value = IMAGE[9, 9] + 10_000 * catalog["n"] + 5_000 * (catalog["ccd"] - 1)
        assert_array_equal(table["class_0"], value)

    def test_batches_are_filled_from_several_files(self, folder, frames):
        sizes = []

        def model(batch):
            sizes.append(len(batch[0]))
            return batch[0][:, 0, 0]

        predict_catalog(model, frames[np.isin(frames["run"], [94, 125])], 1,
                        str(folder / "frame-g-{run:06d}.fits.bz2"))  # fmt: skip
        assert sizes == [4, 4, 4, 1]

    def test_batches_hold_windows_of_one_type(self, tmp_path):
        """Joined with float64, float32 would be seen as such, or not, by chance."""
        types = [["f4", "f8"], ["i2", "f4"]]
        for (row, column), dtype in np.ndenumerate(types):
            fits.writeto(
                tmp_path / f"{row}-{column}.fits", np.full((3, 3), 10 * row + column, dtype)
            )
        catalog = Table({"b": [0, 1, 0, 1], "a": [0, 0, 1, 1], "x": [1] * 4, "y": [1] * 4})
        seen = []

        def model(batch):
            seen.append(batch[0].dtype)
            return batch[0][:, 0, 0]

        table = predict_catalog(model, catalog, 1, str(tmp_path / "{a}-{b}.fits"))
        assert [*table["class_0"]] == [0, 1, 10, 11]
        assert sorted(dtype.str[1:] for dtype in seen) == ["f4", "f4", "f8", "i2"]

    @pytest.mark.parametrize("chunk", [3, 1000])
    def test_a_file_that_breaks_off_keeps_the_rows_before(self, tmp_path, monkeypatch, chunk):
        read = FitsImage.read

        def broken(self, start, stop):
            if stop > 20:
                raise InputError("broken")
            return read(self, start, stop)

        monkeypatch.setattr(FitsImage, "read", broken)
        monkeypatch.setattr("morpheus_core.catalogs.windows.WindowReader._READ_BYTES", 1)
        monkeypatch.setattr("morpheus_core.catalogs.batches.CHUNK", chunk)
        fits.writeto(tmp_path / "1.fits", IMAGE)
        y = np.random.default_rng(1).permutation([*range(12), *range(20, 27), 50])
        rows = Table({"n": [1] * 20, "x": [9] * 20, "y": y})
        with pytest.warns(MorpheusWarning, match="12 ok, [78] unreadable"):
            table = predict_catalog(
                lambda batch: batch[0][:, 0, 0], rows, 1, str(tmp_path / "{n}.fits"), (1, 1)
            )
        assert_array_equal(table["class_0"], np.where(y < 12, IMAGE[np.minimum(y, 29), 9], np.nan))

    def test_the_log_does_not_repeat_itself(self, folder, caplog):
        catalog = Table({"run": [94, *range(200, 220)], "x": [9] * 21, "y": [9] * 21})
        with pytest.warns(MorpheusWarning, match="1 ok, 20 missing file"):
            self.run(folder, catalog)
        assert caplog.text.count("without result: 1, since no such file: ") == 5
        assert "could not be used, in all: 20 missing file" in caplog.text

    def test_rows_that_name_no_file(self, folder, frames):
        frames = frames[np.isin(frames["run"], [94, 125])]
        frames["run"] = MaskedColumn(frames["run"], mask=np.arange(13) == 2)
        with pytest.warns(MorpheusWarning, match="12 ok, 1 missing file"):
            assert self.run(folder, frames)["status"][2] == "missing file"
