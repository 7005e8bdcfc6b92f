"""What is sliced lazily gives what an array gives, and is never asked for all of itself."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from conftest import require
from test_runs import IMAGE, OPTIONS, Model, data_bytes, predict

import morpheus_core as package
from morpheus_core import InputError, ModelError, MorpheusWarning, OutputError
from morpheus_core.images.lazy_images import LazyImage
from morpheus_core.images.stack import open_inputs, reopen
from morpheus_core.pipeline.ring import RowRing
from morpheus_core.pipeline.slabs import SlabReader
from morpheus_core.storage import pickles


class Lazy:
    """Gives the rows of an array, and keeps which were asked for."""

    def __init__(self, array, chunks=None, /, **promises):
        self.array, self.chunks, self.asked = array, chunks, []
        self.shape, self.dtype = array.shape, array.dtype
        vars(self).update(promises)

    def __getitem__(self, index):
        rows = index[-1] if isinstance(index, tuple) else index
        self.asked.append((rows.start, rows.stop))
        return self.array[index]


class OnlySlices:
    """Knows of no tuples."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, "float32"

    def __getitem__(self, rows):
        return self.array[rows.start : rows.stop].tolist() and self.array[rows]


def of_dask(array, folder):
    require("dask")
    import dask.array as da

    zarr = of_zarr(array, folder)
    return da.from_zarr(zarr) + np.zeros((), array.dtype)


def of_delayed(array, folder):
    """Gets another name each time."""
    dask = require("dask")
    import dask.array as da

    fits.writeto(folder / "delayed.fits", array, overwrite=True)
    pixels = dask.delayed(fits.getdata)(str(folder / "delayed.fits"))
    dtype = array.dtype.newbyteorder(">")
    return da.from_delayed(pixels, array.shape, dtype=dtype).rechunk((13, *array.shape[1:]))


def of_zarr(array, folder):
    zarr = require("zarr")
    chunks = tuple(min(length, 7) for length in array.shape)
    stored = zarr.create_array(
        folder / "image.zarr", shape=array.shape, chunks=chunks, dtype=array.dtype, overwrite=True
    )
    stored[:] = array
    return zarr.open_array(folder / "image.zarr", mode="r")


def of_section(array, folder):
    fits.writeto(folder / "section.fits", array, overwrite=True)
    return fits.open(folder / "section.fits", memmap=False)[0].section


def of_h5py(array, folder, chunks=None):
    h5py = require("h5py")
    path = folder / "image.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=array, chunks=chunks)
    return h5py.File(path)["image"]


def of_chunked_h5py(array, folder):
    return of_h5py(array, folder, chunks=tuple(min(length, 7) for length in array.shape))


TRAVELLERS = {
    "chunks": lambda array, _: Lazy(array, (11,) * array.ndim),
    "slices": lambda array, _: OnlySlices(array),
    "dask": of_dask,
    "delayed": of_delayed,
    "zarr": of_zarr,
}
KINDS = {**TRAVELLERS, "section": of_section, "h5py": of_h5py, "chunked h5py": of_chunked_h5py}


@pytest.fixture
def make(tmp_path):
    """Make something lazy of an array, and close its file."""
    sources = []

    def make(kind, array):
        sources.append(KINDS[kind](array, tmp_path))
        return sources[-1]

    yield make
    for source in sources:
        if hasattr(source, "file"):
            source.file.close()
        if hasattr(source, "hdu"):
            source.hdu._file.close()


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"slices"}))
@pytest.mark.parametrize(
    ("shape", "bands"),
    [((40, 30), "last"), ((40, 30, 3), "last"), ((3, 40, 30), "first"), ((1, 40, 30), "last")],
)
def test_rows_are_those_of_the_array(make, kind, shape, bands):
    array = numbers(*shape)
    with open_inputs(array, bands) as stack, open_inputs(make(kind, array), bands) as lazy:
        (image,), (expected,) = lazy.images, stack.images
        assert (image.shape, image.dtype) == (expected.shape, expected.dtype)
        for start, stop in [(0, 40), (3, 5), (6, 15), (20, 21), (33, 40), (1, 2)]:
            np.testing.assert_array_equal(image.read(start, stop), expected.read(start, stop))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"padding": "reflect", "prefetch": 2}])
def test_results_are_those_of_the_array(make, kind, options):
    mask = (IMAGE > 0.9).astype(np.uint8)
    expected = predict(Model(), None, mask=mask, **options)
    inputs = make(kind, IMAGE)
    lazy_mask = Lazy(mask, (5, 5))
    results = predict(Model(), None, inputs, mask=lazy_mask, **options)
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("chunks", [None, (6, 30), ((5, 0, 30, 25), (30,))])
@pytest.mark.parametrize("height", [8, 20])
def test_rows_are_asked_for_in_order_and_once(monkeypatch, chunks, height):
    monkeypatch.setattr(SlabReader, "_READ_BYTES", 4 * IMAGE.itemsize * IMAGE.shape[1])
    lazy = Lazy(IMAGE, chunks)
    predict(Model(), None, lazy, window_shape=(height, 8))
    asked = lazy.asked if chunks else lazy.asked[1:]  # the first row was looked at before
    starts, stops = zip(*asked, strict=True)
    assert (starts[0], *stops) == (*starts, len(IMAGE))
    if chunks:
        assert {*starts} <= ({*range(0, 60, 6)} if chunks[0] == 6 else {0, 5, 35})


@pytest.mark.parametrize("chunks", [None, pytest.param((64, 20), marks=pytest.mark.slow)])
def test_rows_that_are_asked_for_at_once_do_not_grow_with_the_height(tmp_path, chunks):
    most = []
    for height in (2_000, 20_000):
        row = np.random.default_rng(0).random((1, 300))
        lazy = Lazy(np.broadcast_to(row, (height, 300)), chunks)
        options = {"stride": (20, 20), "window_shape": (40, 40), "batch_size": 64}
        predict(Model(), tmp_path / str(height), lazy, **options)
        most.append(max(stop - start for start, stop in lazy.asked))
    # Four MiB, and what completes the chunks.
    assert most == [1747, 1747] if chunks is None else most[0] == most[1] <= 1747 + 2 * 64


def test_a_mask_that_two_threads_read_is_not_read_back_and_forth(monkeypatch):
    # As few rows at a time as of a wide image.
    monkeypatch.setattr(SlabReader, "_READ_BYTES", 3 * 30)
    monkeypatch.setattr(RowRing, "_BLOCK_VALUES", 2 * 30)
    mask = Lazy(np.zeros((600, 30), np.uint8), (50, 30))
    image = np.zeros((600, 30), np.float32)
    predict(Model(), None, image, mask=mask, stride=(1, 3))
    # A pass to count windows, and one to choose them and to know bad output pixels.
    assert len(mask.asked) == 2 * 12


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "chunks" else pytest.mark.slow) for kind in TRAVELLERS],
)
def test_workers_give_what_one_process_gives(make, tmp_path, kind):
    inputs = make(kind, IMAGE)
    mask = Lazy(IMAGE > 0.95, (9, 9))
    expected = predict(Model(), None, IMAGE, mask=IMAGE > 0.95)
    results = predict(Model(), tmp_path / "out", inputs, mask=mask, cpus=2)
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert np.array_equal(results[-1], expected[-1])


def test_pixels_do_not_travel(tmp_path):
    pixels = np.random.default_rng(0).random((100, 100))
    source = of_zarr(pixels, tmp_path)
    with open_inputs(source) as stack:
        places = stack.store(tmp_path)
        assert (tmp_path / "input_0.pkl").stat().st_size < 10_000
        with reopen(places) as again:
            np.testing.assert_array_equal(again.images[0].read(3, 70)[..., 0], pixels[3:70])


def test_reopening_reads_nothing(tmp_path):
    with open_inputs(Lazy(IMAGE, (6, 30))) as stack:
        places = stack.store(tmp_path)
    with reopen(places) as again:
        (image,) = again.images
        assert image._source.asked == [(0, 6)]  # by the process that opened it first


def test_workers_compute_by_themselves(tmp_path):
    dask = require("dask")

    def cluster(*_, **__):
        raise RuntimeError("has no free thread")

    with open_inputs(of_dask(IMAGE, tmp_path)) as stack:
        places = stack.store(tmp_path)
        with dask.config.set(scheduler=cluster):
            with reopen(places) as again:
                np.testing.assert_array_equal(again.images[0].read(3, 9)[..., 0], IMAGE[3:9])
            with pytest.raises(InputError, match="RuntimeError: has no free thread"):
                stack.images[0].read(30, 40)


class OpenedWhereItIsRead:
    def __init__(self, source):
        self.path, self.name = source.file.filename, source.name
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, rows):
        import h5py

        with h5py.File(self.path) as file:
            return file[self.name][rows]


def test_what_cannot_be_sent_to_workers(make, tmp_path):
    source, out = make("h5py", IMAGE), tmp_path / "out"
    message = r"model_inputs\[0\] cannot be sent .* h5py objects cannot be pickled; wrap it in a cl"
    for call in (predict, plan):
        with pytest.raises(InputError, match=message):
            call(Model(), out, source, cpus=2)
        assert not out.exists()
    with pytest.raises(InputError, match="mask cannot be sent"):
        predict(Model(), out, mask=source, cpus=2)
    predict(Model(), out, OpenedWhereItIsRead(source), cpus=2)
    predict(Model(), tmp_path / "here", source)
    assert list(data_bytes(out)) == list(data_bytes(tmp_path / "here"))


def plan(model, out_dir, inputs, **options):
    return package.plan(model, inputs, out_dir=out_dir, **{**OPTIONS, **options})


@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_plans(make, tmp_path, cpus):
    expected = plan(Model(), tmp_path / "out", IMAGE, cpus=cpus)
    forecast = plan(Model(), tmp_path / "out", make("dask", IMAGE), cpus=cpus)
    assert (forecast.windows, forecast.strips) == (expected.windows, expected.strips)
    assert forecast.seconds > 0


@pytest.mark.parametrize("kind", ["chunks", "delayed", "zarr", "h5py"])
def test_interrupted_runs_go_on(make, tmp_path, kind):
    whole = predict(Model(), None)
    with pytest.raises(ModelError):
        predict(Model(fail_after=100), tmp_path / "out", make(kind, IMAGE))
    model = Model()
    results = predict(model, tmp_path / "out", make(kind, IMAGE), resume=True)
    assert 0 < model.windows < 26 * 9 - 50
    for one, other in zip(results, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_runs_over_other_pixels_do_not_go_on(tmp_path):
    with pytest.raises(ModelError):
        predict(Model(fail_after=100), tmp_path, Lazy(IMAGE))
    for other in (Lazy(IMAGE + 1), Lazy(IMAGE.astype(float)), IMAGE):
        with pytest.raises(InputError, match=r"model_inputs\[0\] has other pixels"):
            predict(Model(), tmp_path, other, resume=True)


def test_pickles_that_others_may_have_written(tmp_path):
    with open_inputs(Lazy(IMAGE)) as stack:
        places = stack.store(tmp_path)
    (tmp_path / "input_0.pkl").chmod(0o666)
    with pytest.raises(OutputError, match="could have been written by others"):
        reopen(places)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Lazy(numbers(7)), r"got \(7,\) for model_inputs\[0\]"),
        (Lazy(numbers(2, 4, 4, 2)), r"got \(2, 4, 4, 2\)"),
        (Lazy(numbers(0, 4)), "must have pixels"),
        (Lazy(numbers(4, 4).astype(object)), "real numbers, got dtype object"),
        (Lazy(numbers(4, 4).astype(complex)), "real numbers, got dtype complex128"),
        (Lazy(numbers(4, 4), dtype=None), "real numbers, got dtype object"),
        (Lazy(numbers(4, 4), dtype="torch.float32"), "dtype must be one of numpy, got torch.float"),
        (Lazy(numbers(4, 4), shape=(np.nan, 4)), r"got \(nan, 4\) .* compute_chunk_sizes"),
        (Lazy(numbers(4, 4), shape=None), "shape must be whole numbers, got None"),
        (Lazy(numbers(4, 5), shape=(4, 4)), r"0 to 0 must be \(1, 4\) float32, .* got \(1, 5\)"),
        (Lazy(numbers(4, 4, 2), shape=(4, 4)), r"must be \(1, 4\) .* got \(1, 4, 2\) float32"),
        (Lazy(numbers(4, 4), dtype=float), r"must be \(1, 4\) float64.* got \(1, 4\) float32"),
        (Lazy(np.ma.masked_less(numbers(4, 4), 3)), "gives masked arrays, whose mask"),
        (
            Lazy(numbers(4, 4), array=None),
            "rows 0 to 0 cannot be read: TypeError: .* subscriptable",
        ),
    ],
)
def test_what_is_no_image(source, message):
    with pytest.raises(InputError, match=message):
        open_inputs(source)


def test_arrays_of_dask_that_are_no_image(tmp_path):
    array = of_dask(numbers(20, 30), tmp_path)
    import dask.array as da

    with pytest.raises(InputError, match=r"got \(nan, 30\) for model_inputs\[0\]; compute_chunk_s"):
        open_inputs(array[array[:, 0] > 3])
    with pytest.raises(InputError, match=r"gives masked arrays.*da\.ma\.filled\(array, value\)"):
        open_inputs(da.ma.masked_less(array, 3))


def test_rows_that_break_their_promise_later():
    source = Lazy(numbers(40, 30), (10, 30))
    with open_inputs(source) as stack:
        source.array = source.array[:25]
        with pytest.raises(InputError, match=r"rows 20 to 29 must be \(10, 30\) .* got \(5, 30\)"):
            stack.images[0].read(22, 25)


def test_chunks_of_many_rows_are_warned_of():
    pixels = np.broadcast_to(np.float32(1), (100_000, 4000))
    with pytest.warns(MorpheusWarning, match=r"80000 rows at a time, .* 2 times 1\.2 GiB"):
        open_inputs(Lazy(pixels, (80_000, 100)))
    open_inputs(Lazy(pixels, (60_000, 100)))


def test_nddata_of_something_lazy():
    require("dask")
    import dask.array as da

    array = da.from_array(IMAGE, chunks=(7, 7))
    data = NDData(array, mask=array > 0.5, meta=fits.Header({"OBJECT": "M 31"}))
    with open_inputs(data) as stack:
        assert stack.images[0].chunk_rows == stack.mask.parts[0].chunk_rows == 7
        assert stack.images[0].header["OBJECT"] == "M 31"
        np.testing.assert_array_equal(stack.mask.read(0, 60)[..., 0], IMAGE > 0.5)


def test_an_attribute_called_mask_is_none_of_an_nddata():
    with open_inputs(Lazy(IMAGE, mask=IMAGE > 0.5)) as stack:
        assert stack.mask is None


@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_catalogues(make, tmp_path, cpus):
    catalog = Table({"x": [10, 20, 15, 7], "y": [50, 12, 30, 20]})

    def brightest(batch):
        return batch[0].max(axis=(1, 2))

    arguments = (catalog, 1, 2, (5, 5))
    expected = package.predict_catalog(brightest, IMAGE, *arguments, progress=False)
    options = {"cpus": cpus, "work_dir": None if cpus is None else tmp_path / "work"}
    table = package.predict_catalog(
        brightest, make("dask", IMAGE), *arguments, progress=False, **options
    )
    assert table.pformat() == expected.pformat()


@pytest.mark.filterwarnings("ignore:probabilities, from 0 to 1, are needed")
def test_quicklooks(make):
    require("matplotlib")
    results = package.predict(Model(), IMAGE, **OPTIONS)
    array = package.quicklook(results, IMAGE).axes[0].images[0].get_array()
    lazy = package.quicklook(results, make("chunks", IMAGE)).axes[0].images[0].get_array()
    np.testing.assert_array_equal(lazy, array)


def test_persisted_arrays_are_refused_for_workers():
    class Task:
        """What Dask's graphs hold for a chunk on a cluster."""

    Task.__module__ = "distributed.client"
    array = require("dask.array").from_array(IMAGE, chunks=(20, 30))
    array.dask = {key: Task() for key in array.dask}
    with pytest.raises(InputError, match=r"was persisted on a Dask .*as it was before persist"):
        LazyImage(array + 1, "image", "last").pickled()


def test_pixels_in_a_pickle_are_warned_of_and_pickled_once(tmp_path, monkeypatch):
    image = LazyImage(require("dask.array").from_array(IMAGE), "image", "last")
    dumps = []
    monkeypatch.setattr("morpheus_core.images.lazy_images.LARGE", 1000)
    monkeypatch.setattr(pickles, "dump", lambda source: dumps.append(source) or bytes(2000))
    with pytest.warns(MorpheusWarning, match=r"image holds its pixels, 0\.0 GiB, and every strip"):
        image.pickled()
    image.store(tmp_path / "image.npy")
    assert len(dumps) == 1
