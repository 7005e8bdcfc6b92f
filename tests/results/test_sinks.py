"""One contract for every sink: what a run writes is whole, right, and goes on after anything."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import fill, require

import morpheus_core as package
from morpheus_core import InputError, MissingPackageError, ModelError, OutputError, verify
from morpheus_core.cli import main
from morpheus_core.results import sinks, verification
from morpheus_core.results.stored_images import open_images

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
IMAGE[20:24] = np.nan
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": ["mean_var", "rank_vote"],
    "class_names": ["star", "sky"],
    "on_nan": "ignore",
    "progress": False,
}
#: Names of outputs without their ending, in the order of arrays.
STEMS = ["output_mean_var", "output_rank_vote", "n"]
#: What differs between two runs.
VARYING = {"DATE", "RUNID", "CHECKSUM"}
#: What only images in extensions have, or primaries.
STRUCTURE = {"SIMPLE", "XTENSION", "PCOUNT", "GCOUNT", "EXTEND"}


@pytest.fixture(params=["fits", "fits.fz", "zarr"])
def sink(request):
    if request.param == "zarr":
        require("zarr")
    return request.param


@pytest.fixture(params=["fits.fz", "zarr"])
def packing(request):
    """A sink whose files are made when all rows are there."""
    if request.param == "zarr":
        require("zarr")
    return request.param


class Model:
    """Scores with a twist in each call's sums; stops after so many windows."""

    def __init__(self, fail_after=None):
        self.windows, self.fail_after = 0, fail_after

    def __call__(self, batch):
        if self.fail_after is not None and self.windows >= self.fail_after:
            raise RuntimeError("stopped here")
        (windows,) = batch
        self.windows += len(windows)
        score = windows * np.float32(0.9) + np.nansum(windows) / np.float32(1e4)
        return np.concatenate([score, 1 - score], axis=-1)


def contents(results):
    """Return the bytes of what a run returns, as a plain file has them, and close it."""
    hduls, arrays = results
    found = [np.array(array[:]).astype(">f4").tobytes() for array in arrays]
    for hdul in hduls:
        hdul.close()
    return dict(zip(STEMS, found, strict=True))


def predict(out_dir, sink, model=None, **options):
    arguments = {**OPTIONS, "out_dir": out_dir, "sink": sink, **options}
    return contents(package.predict(model or Model(), IMAGE, **arguments))


def stored(out_dir, sink):
    """Return the bytes in the files of a folder that holds nothing else."""
    assert sorted(p.name for p in out_dir.iterdir()) == sorted(f"{s}.{sink}" for s in STEMS)
    with ExitStack() as opened:
        images = {stem: image_at(out_dir / f"{stem}.{sink}", opened) for stem in STEMS}
        return {
            stem: np.array(image.rows[0 : image.shape[0]]).astype(">f4").tobytes()
            for stem, image in images.items()
        }


def image_at(path, opened):
    (image,) = open_images(path, opened)
    return image


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What plain files hold, and their headers."""
    folder = tmp_path_factory.mktemp("plain")
    found = predict(folder, "fits")
    return found, {stem: fits.getheader(folder / f"{stem}.fits") for stem in STEMS}


def cards_of(header):
    return [tuple(c) for c in header.cards if c.keyword not in VARYING | STRUCTURE]


@pytest.mark.parametrize("options", [{}, {"strips": 3}, {"strips": 3, "rows_apart": True}])
def test_pixels_and_cards_are_those_of_plain_files(tmp_path, sink, expected, options):
    pixels, headers = expected
    assert predict(tmp_path, sink, **options) == pixels
    assert stored(tmp_path, sink) == pixels
    with ExitStack() as opened:
        for stem in STEMS:
            header = image_at(tmp_path / f"{stem}.{sink}", opened).header
            assert cards_of(header) == cards_of(headers[stem])
    assert verify(tmp_path) == []


@pytest.mark.parametrize("after", [40, 180])
def test_a_run_that_was_interrupted_goes_on(tmp_path, sink, expected, after):
    with pytest.raises(ModelError):
        predict(tmp_path, sink, Model(after), strips=2)
    assert predict(tmp_path, sink, resume=True) == expected[0]
    assert stored(tmp_path, sink) == expected[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 10])
@pytest.mark.parametrize(("packing", "overwrite"), [("fits.fz", False), ("zarr", True)])
def test_a_run_killed_while_its_files_get_their_names(
    tmp_path, packing, expected, monkeypatch, count, overwrite
):
    """Before one step after the other."""
    require("zarr")
    if overwrite:
        predict(tmp_path, packing)
    left = [count]
    steps = [(sinks, "refuse_differences"), (Path, "unlink"), (Path, "replace")]

    def killing(real):
        def step(*arguments, **options):
            # Zarr has threads of its own, whose end it would wait for; and folders are looked at.
            ours = threading.current_thread() is threading.main_thread()
            ours = ours and "look." not in str(arguments[0])
            left[0] -= ours and Path(tmp_path / "0" / "stitched.json").exists()
            if left[0] == 0:
                raise SystemExit
            return real(*arguments, **options)

        return step

    model = Model()
    with monkeypatch.context() as patch:
        for owner, name in steps:
            patch.setattr(owner, name, killing(getattr(owner, name)))
        with pytest.raises(SystemExit):
            predict(tmp_path, packing, model, overwrite=overwrite)
    seen = model.windows
    assert predict(tmp_path, packing, model, resume=True) == expected[0]
    assert model.windows == seen
    assert stored(tmp_path, packing) == expected[0]


@pytest.mark.slow
def test_workers_fill_it(tmp_path, sink, expected):
    model_of = f"{__name__}:Model"
    options = {**OPTIONS, "out_dir": tmp_path, "sink": sink, "cpus": 2}
    assert contents(package.predict(model_of, IMAGE, **options)) == expected[0]
    assert stored(tmp_path, sink) == expected[0]


def test_executors_fill_it(tmp_path, sink, expected):
    with ThreadPoolExecutor(2) as threads:
        found = predict(tmp_path, sink, executor=threads, strips=3)
    assert found == stored(tmp_path, sink) == expected[0]


def test_jobs_fill_it(tmp_path, sink, expected):
    options = {**OPTIONS, "out_dir": tmp_path, "sink": sink, "strips": 3, "begin_only": True}
    package.predict(Model(), IMAGE, **options)
    for strip in range(3):
        package.run_strip(tmp_path, strip, progress=False)
    assert contents(package.stitch(tmp_path)) == stored(tmp_path, sink) == expected[0]


def test_a_disk_that_fills_up_during_the_run(small_disk, sink, expected, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")  # as on some file systems

    class Filling(Model):
        def __call__(self, batch):
            if self.windows > 100:
                fill(small_disk)
            return super().__call__(batch)

    with pytest.raises(OutputError, match="No space left"):
        predict(small_disk, sink, Filling(), batch_size=1)
    (small_disk / "filler").unlink()
    assert not list(small_disk.glob(f"*.{sink}"))
    resumed = predict(small_disk, sink, resume=True, batch_size=1)
    assert resumed == stored(small_disk, sink)


def test_a_disk_that_is_full_when_files_are_made(small_disk, packing, expected, monkeypatch):
    complete = package.run.publish_as

    def full(*arguments):
        fill(small_disk)
        complete(*arguments)

    model = Model()
    with monkeypatch.context() as patch:
        patch.setattr("morpheus_core.run.publish_as", full)
        with pytest.raises(OutputError, match="No space left") as failure:
            predict(small_disk, packing, model)
    assert "resume=True continues from there" in "".join(failure.value.__notes__)
    (small_disk / "filler").unlink()
    seen = model.windows
    assert predict(small_disk, packing, model, resume=True) == expected[0]
    assert model.windows == seen
    assert stored(small_disk, packing) == expected[0]


def files_of(out_dir):
    """Return all files of a run, the largest first."""
    paths = [path for path in out_dir.rglob("*") if path.is_file()]
    return sorted(paths, key=lambda path: -path.stat().st_size)


@pytest.mark.parametrize("place", [0, 0.02, 0.2, 0.5, 0.8, 0.98, 1])
def test_a_flipped_bit_is_found(tmp_path, sink, place):
    predict(tmp_path, sink)
    for path in [path for path in files_of(tmp_path) if f"n.{sink}" in str(path)]:
        content = bytearray(path.read_bytes())
        offset = round(place * (len(content) - 1))
        content[offset] ^= 4
        path.write_bytes(content)
        differences = verify(tmp_path)
        assert len(differences) >= 1, (path, offset)
        assert all(str(path).startswith(str(one.path)) for one in differences)
        content[offset] ^= 4
        path.write_bytes(content)
    assert verify(tmp_path) == []


def test_rows_that_differ_are_named(tmp_path, packing):
    predict(tmp_path, packing)
    path = files_of(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    found = verify(tmp_path)
    assert found[0].rows is not None
    assert "are not what was computed" in str(found[0])


def test_what_is_left_of_a_file(tmp_path, packing):
    predict(tmp_path, packing)
    path = files_of(tmp_path)[0]
    os.truncate(path, path.stat().st_size // 2)
    assert verify(tmp_path) != []
    with pytest.raises(InputError):
        package.export_planes(tmp_path, tmp_path / "planes.fits")


def test_pixels_that_read_back_otherwise(tmp_path, packing, expected, monkeypatch):
    """Nothing gets its name, and the rows are kept."""
    real = verification.same_sum
    with monkeypatch.context() as patch:
        patch.setattr(verification, "same_sum", lambda *_: False)
        with pytest.raises(OutputError, match="what is read back is not what was written"):
            predict(tmp_path, packing)
    assert verification.same_sum is real
    assert not list(tmp_path.glob(f"*.{packing}"))
    assert predict(tmp_path, packing, resume=True) == expected[0]


def test_plain_files_that_read_back_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("morpheus_core.results.tile_files.same_sum", lambda *_: False)
    with pytest.raises(OutputError, match=r"n.*part does not read back as it was computed"):
        predict(tmp_path, "fits.fz")
    assert not list(tmp_path.glob("*.fz*"))


def test_nothing_is_replaced_unless_asked(tmp_path, sink, expected):
    predict(tmp_path, sink, stride=(5, 4))
    with pytest.raises(OutputError, match=r"exists already; pass overwrite=True"):
        predict(tmp_path, sink)
    assert predict(tmp_path, sink, overwrite=True) == expected[0]
    assert stored(tmp_path, sink) == expected[0]


def test_what_is_no_output_is_in_the_way(tmp_path, sink):
    (tmp_path / f"n.{sink}").mkdir()
    with pytest.raises(OutputError, match="is in the way: it is not a file"):
        predict(tmp_path, sink, overwrite=True)


def test_what_a_run_has_begun_is_in_the_way(tmp_path, packing):
    (tmp_path / f"n.{packing}.part").mkdir()
    with pytest.raises(OutputError, match=r"a new run needs the place of .*n\."):
        predict(tmp_path, packing)


def test_outputs_of_another_sink_are_not_left_beside_new_ones(tmp_path, packing):
    predict(tmp_path, "fits")
    with pytest.raises(OutputError, match=r"\.fits is of a run with another .* or sink"):
        predict(tmp_path, packing, overwrite=True)


def test_an_output_that_has_appeared_during_the_run(tmp_path, packing):
    class Appearing(Model):
        def __call__(self, batch):
            (tmp_path / f"n.{packing}").mkdir(exist_ok=True)
            return super().__call__(batch)

    with pytest.raises(OutputError, match="has appeared during the run; the result is"):
        predict(tmp_path, packing, Appearing())


def test_a_run_is_resumed_with_its_sink(tmp_path, packing):
    with pytest.raises(ModelError):
        predict(tmp_path, packing, Model(100))
    with pytest.raises(InputError, match=f"sink was {packing}, is fits"):
        predict(tmp_path, "fits", resume=True)


def test_the_same_is_made_of_it(tmp_path, sink):
    """By what reads outputs, from the folder and from what is returned."""
    require("scipy")
    arguments = {**OPTIONS, "sink": sink, "out_dir": tmp_path / sink}
    results = package.predict(Model(), IMAGE, **arguments)
    predict(tmp_path / "plain", "fits")
    search = {"class_name": "star", "threshold": 0.6, "aggregate_method": "mean_var"}
    wanted = package.find_candidates(tmp_path / "plain", **search)
    assert len(wanted) > 3
    hduls, arrays = results
    for given in [tmp_path / sink, results, *([hduls] if hduls else [])]:
        assert package.find_candidates(given, **search).pformat() == wanted.pformat()
    if not hduls:
        assert package.find_candidates(arrays, **search).pformat() == wanted.pformat()
    for folder in (sink, "plain"):
        package.export_planes(tmp_path / folder, tmp_path / f"{folder}.planes.fits")
    with (
        fits.open(tmp_path / f"{sink}.planes.fits") as planes,
        fits.open(tmp_path / "plain.planes.fits") as others,
    ):
        for one, other in zip(planes[1:], others[1:], strict=True):
            assert one.data.tobytes() == other.data.tobytes()
            varying = [c for c in cards_of(one.header) if c not in cards_of(other.header)]
            assert [card[0] for card in varying] == []
    for hdul in hduls:
        hdul.close()


def test_a_picture_is_drawn_of_it(tmp_path, packing):
    require("matplotlib")
    predict(tmp_path, packing)
    assert package.quicklook(tmp_path).axes


def test_products_are_packed(tmp_path, sink):
    names = ["class_map:mean_var", "mean:star", "n"]
    hduls, arrays = package.predict(
        Model(), IMAGE, **OPTIONS, out_dir=tmp_path / sink, sink=sink, products=names
    )
    hduls_of_plain, wanted = package.predict(
        Model(), IMAGE, **OPTIONS, out_dir=tmp_path / "plain", products=names
    )
    assert [path.name for path in (tmp_path / sink).iterdir()] == [f"products.{sink}"]
    for one, other in zip(arrays, wanted, strict=True):
        assert np.array_equal(np.array(one[:]), np.array(other).reshape(60, 30), equal_nan=True)
    assert verify(tmp_path / sink) == []
    for hdul in [*hduls, *hduls_of_plain]:
        hdul.close()


def test_scaled_products_are_in_no_store(tmp_path):
    require("zarr")
    with pytest.raises(InputError, match=r'product_dtype needs sink="fits" or "fits.fz"'):
        predict(tmp_path, "zarr", products=["mean"], product_dtype="uint8")


@pytest.mark.parametrize("value", ["FITS", "hdf5", None, 1])
def test_sinks_that_there_are_not(tmp_path, value):
    with pytest.raises(InputError, match=r"sink must be one of 'fits', 'fits.fz', 'zarr', got"):
        predict(tmp_path / "out", value)
    assert not (tmp_path / "out").exists()


def test_a_sink_needs_a_folder(packing):
    with pytest.raises(InputError, match=f'sink="{packing}" needs out_dir'):
        predict(None, packing)


def test_without_zarr(tmp_path, monkeypatch):
    monkeypatch.setattr("morpheus_core.extras.find_spec", lambda package: None)
    with pytest.raises(MissingPackageError, match=r'sink="zarr" needs zarr, .*\[zarr\]'):
        predict(tmp_path / "out", "zarr")
    assert not (tmp_path / "out").exists()


def test_a_plan_says_what_disk_it_takes(tmp_path, packing):
    arguments = {**OPTIONS, "out_dir": tmp_path / "out", "strips": 2}
    plain = package.plan(Model(), IMAGE, **arguments)
    forecast = package.plan(Model(), IMAGE, **arguments, sink=packing)
    assert forecast.disk_bytes == plain.disk_bytes + plain.output_bytes
    assert forecast.verified_bytes == plain.output_bytes
    assert f" at most, as {packing}" in str(forecast)


def test_on_the_command_line(tmp_path, sink, capsys):
    fits.writeto(tmp_path / "image.fits", np.nan_to_num(IMAGE))
    status = main(
        [
            *("predict", str(tmp_path / "image.fits"), "--model", f"{__name__}:Model"),
            *("--n-classes", "2", "--window", "10", "8", "--stride", "2", "3"),
            *("--sink", sink, "--out-dir", str(tmp_path / "out"), "--no-progress"),
        ]
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'out' / 'n'}.{sink}" in printed
    assert "(60, 30, 2)" in printed
