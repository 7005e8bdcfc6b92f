"""All scores of a row as one column: what it is in each format, and how much memory it takes."""

import tracemalloc

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from conftest import require
from numpy.testing import assert_array_equal

from morpheus_core import InputError, MorpheusWarning, columns, predict_catalog
from morpheus_core.catalogs.tables import read_catalog
from morpheus_core.cli import main
from morpheus_core.results import table_files

IMAGE = np.arange(400, dtype=np.float32).reshape(20, 20)
CATALOG = Table({"x": [3, 5, 500, 7], "y": [2, 4, 5, 19]})
N_CLASSES = 1024
VALUES = np.random.default_rng(1).random((400, N_CLASSES), np.float32)


def embeddings(batch):
    return VALUES[batch[0][:, 0, 0, 0].astype(int)]


def ask(**options):
    arguments = {"columns": "vector", "progress": False, **options}
    with pytest.warns(MorpheusWarning, match="1 of 4 rows have no result"):
        return predict_catalog(embeddings, IMAGE, CATALOG, N_CLASSES, 2, (1, 1), **arguments)


def expected(dtype):
    values = VALUES[[43, 85, 0, 387]].astype(dtype)
    values[2] = np.nan
    return values


def require_packages_of(end):
    """Import what tables of a format need, or skip."""
    needed = {".parquet": ["pandas", "pyarrow"], ".hdf5": ["h5py"], ".h5": ["h5py"]}
    for package in needed.get(end, ()):
        require(package)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("end", [".fits", ".parquet", ".ecsv", ".hdf5", ".h5", ".vot"])
def test_a_vector_is_one_column(tmp_path, end, dtype):
    require_packages_of(end)
    table = ask(out=tmp_path / f"out{end}", output_dtype=dtype)
    assert table.colnames == ["x", "y", "scores", "status"]
    assert table["scores"].dtype == dtype
    assert_array_equal(table["scores"], expected(dtype))
    stored = read_catalog(tmp_path / f"out{end}")["scores"]
    half = dtype == "float16" and end in (".fits", ".vot")
    assert stored.dtype.newbyteorder("=") == ("float32" if half else dtype)
    assert_array_equal(np.ma.filled(stored, np.nan), expected(dtype))


def test_parquet_has_a_list_of_fixed_size(tmp_path):
    pyarrow, polars = require("pyarrow"), require("polars")
    from pyarrow import parquet

    ask(out=tmp_path / "out.parquet", output_dtype="float16", columns=["vector", "argmax"])
    kind = parquet.read_schema(tmp_path / "out.parquet").field("scores").type
    assert kind == pyarrow.list_(pyarrow.float16(), N_CLASSES)
    read = polars.read_parquet(tmp_path / "out.parquet")
    assert_array_equal(read["scores"].to_numpy()[[0, 1, 3]], expected("float16")[[0, 1, 3]])


def test_fits_has_a_column_of_many_values(tmp_path):
    ask(out=tmp_path / "out.fits", output_dtype="float16")
    header = fits.getheader(tmp_path / "out.fits", 1)
    assert (header["TTYPE3"], header["TFORM3"]) == ("scores", f"{N_CLASSES}E")


def test_other_columns_of_half_precision_are_whole(tmp_path):
    table = ask(columns=["vector", "argmax", "top"], output_dtype="float16")
    assert table["scores"].dtype == "float16"
    assert table["top_score"].dtype == "float32"
    assert table["argmax"][0] == VALUES[43].argmax()  # beyond 2048 float16 has gaps
    assert table["argmax"].mask.tolist() == [False, False, True, False]


def test_values_beyond_half_precision_are_not_finite():
    with pytest.warns(MorpheusWarning, match="1 of 2 rows .* 1 not finite"):
        table = predict_catalog(
            lambda batch: 300 * batch[0][:, 0, 0], IMAGE, Table({"x": [1, 0], "y": [0, 19]}),
            1, 8, (1, 1), columns="vector", output_dtype="float16", progress=False,
        )  # fmt: skip
    assert_array_equal(table["scores"], [[300], [np.nan]])


@pytest.mark.slow
def test_workers_and_resumed_runs_give_the_same(tmp_path):
    catalog = Table({"x": np.arange(20) % 19, "y": np.arange(20)})
    common = (IMAGE, catalog, N_CLASSES, 2, (1, 1))
    options = {"columns": ["argmax", "vector"], "output_dtype": "float16", "progress": False}
    expected = predict_catalog(embeddings, *common, **options)
    calls = []

    def fails_late(batch):
        calls.append(len(batch[0]))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return embeddings(batch)

    with pytest.raises(KeyboardInterrupt):
        predict_catalog(fails_late, *common, **options, work_dir=tmp_path)
    table = predict_catalog(embeddings, *common, **options, work_dir=tmp_path, resume=True, cpus=2)
    assert_array_equal(table["scores"], expected["scores"])
    assert_array_equal(table["argmax"], expected["argmax"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "a.csv"}, r"cannot be written to .*a\.csv \(columns: scores\)"),
        ({"columns": ["vector", "vector"]}, "columns must have one vector at most"),
        ({"columns": ["argmax"], "output_dtype": "float16"}, "is for a vector of scores"),
        ({"output_dtype": "int16"}, "must be one of float32, float64, float16, got 'int16'"),
        ({"columns": columns.vector([1, 2])}, "bin_centres must be 1024 numbers"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    options = {"columns": "vector", "progress": False, **options}
    with pytest.raises(InputError, match=message):
        predict_catalog(pytest.fail, IMAGE, CATALOG, N_CLASSES, 2, (1, 1), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [".fits", ".parquet", ".ecsv", ".hdf5"])
def test_bins_are_in_the_metadata(tmp_path, end):
    require_packages_of(end)
    bins = np.linspace(0, 0.4, 180, endpoint=False) + 0.4 / 360
    path = tmp_path / f"photoz{end}"
    predict_catalog(
        lambda batch: np.full((len(batch[0]), 180), 1 / 180), IMAGE, CATALOG[:2], 180, 8, (1, 1),
        columns=[columns.vector(bins, name="pdf"), columns.mode(bins)], out=path, progress=False,
    )  # fmt: skip
    table = Table.read(path)
    assert_array_equal(columns.bins_of(table), bins)
    assert table["pdf"].shape == (2, 180)


def test_names_of_classes_are_in_the_metadata():
    table = predict_catalog(
        lambda batch: np.eye(2)[[0] * len(batch[0])], IMAGE, CATALOG[:1], 2, 8, (1, 1),
        class_names=["star", "galaxy"], columns="vector", progress=False,
    )  # fmt: skip
    assert (table.meta["CLASS0"], table.meta["CLASS1"]) == ("star", "galaxy")


def test_the_command_writes_vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "even.py").write_text(
        "import numpy as np\n"
        "def make():\n    return lambda batch: np.full((len(batch[0]), 4), .25)\n"
    )
    fits.writeto("image.fits", IMAGE)
    CATALOG[:2].write("catalog.csv")
    np.savetxt("bins.txt", [1, 2, 3, 4])
    call = "catalog image.fits --catalog catalog.csv --model even:make --n-classes 4 --window 1 "
    call += "--columns vector mode odds --bin-centres bins.txt --output-dtype float16 "
    assert main([*call.split(), "--out", "out.fits", "--no-progress"]) == 0
    table = Table.read("out.fits")
    assert table.colnames == ["x", "y", "scores", "mode", "odds", "status"]
    assert_array_equal(columns.bins_of(table), [1, 2, 3, 4])


class TestBlocksOfRows:
    """Tables are written some rows at a time, and are what they were if written at once."""

    table = Table(
        {
            "id": np.ma.array(np.arange(300), mask=np.arange(300) % 50 == 1),
            "small": np.ma.array(np.arange(300) % 250, np.uint16, mask=np.arange(300) == 299),
            "name": MaskedColumn([f"{k:03d}" for k in range(300)], mask=np.arange(300) < 200),
            "on": np.arange(300) % 3 == 0,
            "scores": np.random.default_rng(2).random((300, 40), np.float32),
        },
        meta={"BINS": "0.1 0.2"},
    )

    @pytest.mark.parametrize("end", [".fits", ".parquet"])
    def test_whatever_their_size(self, tmp_path, monkeypatch, end):
        require_packages_of(end)
        whole, parts = tmp_path / f"whole{end}", tmp_path / f"parts{end}"
        table_files.WRITERS[end](self.table, whole)
        monkeypatch.setattr(table_files, "BLOCK_BYTES", 5000)
        assert len(list(table_files.row_blocks(self.table))) > 5
        table_files.WRITERS[end](self.table, parts)
        if end == ".fits":
            assert whole.read_bytes() == parts.read_bytes()
        one, other = read_catalog(whole), read_catalog(parts)
        assert one.colnames == other.colnames == self.table.colnames
        assert all((one[name] == other[name]).all() for name in one.colnames)
        assert [*map(str, other["name"][[0, 200]])] == ["--", "200"]

    def test_fits_is_what_astropy_writes(self, tmp_path):
        plain = self.table["on", "scores"]
        table_files.write_fits(plain, tmp_path / "ours.fits")
        plain.write(tmp_path / "theirs.fits")
        assert (tmp_path / "ours.fits").read_bytes() == (tmp_path / "theirs.fits").read_bytes()

    def test_what_stands_beside_vectors_is_what_astropy_writes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(table_files, "BLOCK_BYTES", 3000)
        table = QTable(self.table["on", "scores"])
        table["place"] = SkyCoord(np.arange(300.0), np.zeros(300), unit="deg")
        table["flux"] = np.ones((300, 2)) * units.Jy
        table["time"] = Time(np.arange(300.0), format="mjd")
        table["text"] = [f"é{k}"[:3].encode() for k in range(300)]
        table_files.write_fits(table, tmp_path / "ours.fits")
        table.write(tmp_path / "theirs.fits")
        assert (tmp_path / "ours.fits").read_bytes() == (tmp_path / "theirs.fits").read_bytes()

    def test_lists_of_any_length_are_kept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(table_files, "BLOCK_BYTES", 1)
        lists = np.array([np.arange(3), np.arange(2), np.arange(1)], object)
        table_files.write_fits(Table({"lists": lists}), tmp_path / "lists.fits")
        stored = Table.read(tmp_path / "lists.fits")["lists"]
        assert [row.tolist() for row in stored] == [[0, 1, 2], [0, 1], [0]]

    @pytest.mark.parametrize("end", [".fits", ".parquet"])
    def test_memory_does_not_grow_with_the_rows(self, tmp_path, monkeypatch, end):
        if end == ".parquet":
            require("pyarrow")
        monkeypatch.setattr(table_files, "BLOCK_BYTES", 1 << 18)
        table = Table({"scores": np.ones((40_000, 64), np.float32)})  # 10 MB
        table_files.WRITERS[end](table[:100], tmp_path / f"warm{end}")
        tracemalloc.start()
        table_files.WRITERS[end](table, tmp_path / f"out{end}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 << 20
