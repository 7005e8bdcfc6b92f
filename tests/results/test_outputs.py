import errno
import fcntl
import os
import warnings

import numpy as np
import pytest
from astropy.io import fits
from conftest import require
from hypothesis import given
from hypothesis import strategies as st

from morpheus_core import OutputError, predict
from morpheus_core.fits.blocks import ImageUnit, encode_checksum, write_all
from morpheus_core.results import fits_outputs
from morpheus_core.results.fits_outputs import FitsOutputs, allocate_files
from morpheus_core.results.outputs import (
    MemoryOutputs,
    Product,
    open_results,
    publish,
    refuse_to_replace,
)

RUN = "0123456789abcdef0123456789abcdef"
PRODUCTS = [Product("output", ImageUnit((10, 7, 3))), Product("n", ImageUnit((10, 7)))]


def blocks(first, rows):
    """Rows whose values say where they belong."""
    whole = [
        np.arange(np.prod(p.unit.shape), dtype=np.float64).reshape(p.unit.shape) for p in PRODUCTS
    ]
    return [array[first : first + rows] for array in whole]


def write_rows(outputs):
    """Write all rows out of order, and return the data sums."""
    sums = [outputs.write(first, blocks(first, rows)) for first, rows in [(4, 6), (0, 3), (3, 1)]]
    return None if sums[0] is None else np.sum(sums, axis=0)[:, np.newaxis].tolist()


def write_files(directory, overwrite=False):
    allocate_files(PRODUCTS, directory, RUN)
    with FitsOutputs(PRODUCTS, directory, RUN) as outputs:
        outputs.seal(write_rows(outputs))
    publish(PRODUCTS, directory, overwrite)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_rows_come_back_from_memory():
    outputs = MemoryOutputs(PRODUCTS, as_hduls=True)
    write_rows(outputs)
    check_results(*outputs.results())


def test_rows_come_back_from_disk(tmp_path):
    write_files(tmp_path)
    check_results(*open_results(PRODUCTS, tmp_path))


def test_files_are_open_for_writing_alone(tmp_path, monkeypatch):
    modes, original = [], os.open

    def spy(path, flags):
        descriptor = original(path, flags)
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        return descriptor

    allocate_files(PRODUCTS, tmp_path, RUN)
    monkeypatch.setattr("morpheus_core.results.fits_outputs.os.open", spy)
    with FitsOutputs(PRODUCTS, tmp_path, RUN):
        assert modes.count(os.O_WRONLY) == 2
        assert os.O_RDWR not in modes


def check_results(hduls, arrays):
    for hdul, array, expected in zip(hduls, arrays, blocks(0, 10), strict=True):
        assert array.dtype.newbyteorder("=") == np.float32
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(hdul[0].data, expected)
        hdul.close()


def test_files_are_padded_and_their_checksums_hold(tmp_path):
    write_files(tmp_path)
    assert names(tmp_path) == ["n.fits", "output.fits"]
    for path in tmp_path.iterdir():
        assert path.stat().st_size % 2880 == 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # astropy warns of checksums that do not hold
            with fits.open(path, checksum=True) as hdul:
                hdul.verify("exception")
                assert {"DATE", "CHECKSUM", "DATASUM"} <= set(hdul[0].header)


@given(st.integers(0, 2**32 - 1))
def test_checksums_are_letters_and_digits_that_add_up_to_the_complement(total):
    text = encode_checksum(total)
    assert text.isascii()
    assert text.isalnum()
    straight = text[1:] + text[0]
    words = np.frombuffer(straight.encode(), ">u4").astype(object) - 0x30303030
    assert sum(words) % 0xFFFFFFFF == (~total & 0xFFFFFFFF) % 0xFFFFFFFF


def test_arrays_over_files_are_copy_on_write(tmp_path):
    write_files(tmp_path)
    hduls, (output, _) = open_results(PRODUCTS, tmp_path)
    output[0, 0, 0] = 99
    for hdul in hduls:
        hdul.close()
    assert fits.getdata(tmp_path / "output.fits")[0, 0, 0] == 0


def test_the_first_product_appears_last(tmp_path, monkeypatch):
    order = []
    replace = type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda self, to: order.append(to.name) or replace(self, to)
    )
    write_files(tmp_path)
    assert order == ["n.fits", "output.fits"]


def test_publishing_goes_on_where_it_stopped(tmp_path):
    allocate_files(PRODUCTS, tmp_path, RUN)
    publish(PRODUCTS[1:], tmp_path, overwrite=False)
    assert names(tmp_path) == ["n.fits", "output.fits.part"]
    publish(PRODUCTS, tmp_path, overwrite=False)
    publish(PRODUCTS, tmp_path, overwrite=False)
    assert names(tmp_path) == ["n.fits", "output.fits"]


def test_files_that_appear_during_the_run_are_kept(tmp_path):
    allocate_files(PRODUCTS, tmp_path, RUN)
    (tmp_path / "output.fits").write_text("precious")
    with pytest.raises(OutputError, match=r"has appeared during the run; the result is .*\.part"):
        publish(PRODUCTS, tmp_path, overwrite=False)
    assert (tmp_path / "output.fits").read_text() == "precious"
    assert (tmp_path / "output.fits.part").exists()


@pytest.mark.parametrize("name", ["output.fits", "n.fits"])
def test_existing_files_are_refused(tmp_path, name):
    paths = [tmp_path / "output.fits", tmp_path / "n.fits"]
    refuse_to_replace(paths, [], overwrite=False)
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=rf"{name} exists already; pass overwrite=True"):
        refuse_to_replace(paths, [], overwrite=False)
    refuse_to_replace(paths, [], overwrite=True)


def test_inputs_are_never_replaced(tmp_path):
    source, link = tmp_path / "n.fits", tmp_path / "link.fits"
    source.write_text("precious")
    link.symlink_to(source)
    with pytest.raises(OutputError, match="would replace the input"):
        refuse_to_replace([source], [link], overwrite=True)


def test_directories_are_never_replaced(tmp_path):
    (tmp_path / "output.fits").mkdir()
    with pytest.raises(OutputError, match="is in the way: it is not a file"):
        refuse_to_replace([tmp_path / "output.fits"], [], overwrite=True)


@pytest.mark.parametrize("allocates", [True, False], ids=["posix_fallocate", "free space check"])
def test_a_disk_that_is_too_small_shows_before_the_run(tmp_path, monkeypatch, allocates):
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    petabytes = [
        Product("n", ImageUnit((10, 7))),
        Product("output", ImageUnit((1_000_000, 1_000_000, 500))),
    ]
    with pytest.raises(OutputError, match=r"output\.fits.part needs \d+\.\d\d GiB that cannot"):
        allocate_files(petabytes, tmp_path, RUN)
    assert names(tmp_path) == []


def test_nothing_is_left_of_an_interrupted_allocation(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        allocate_files(PRODUCTS, tmp_path, RUN)
    assert names(tmp_path) == []


def test_file_systems_that_cannot_allocate(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    write_files(tmp_path)
    check_results(*open_results(PRODUCTS, tmp_path))


def test_files_of_another_run_are_not_written_to(tmp_path):
    allocate_files(PRODUCTS, tmp_path, "another")
    with pytest.raises(OutputError, match="is not the file that this run has made"):
        FitsOutputs(PRODUCTS, tmp_path, RUN)


@pytest.mark.parametrize("shared", [True, False])
def test_only_where_machines_share_files_they_are_waited_for(tmp_path, monkeypatch, shared):
    allocate_files(PRODUCTS, tmp_path, "another")
    waited = []

    def comes_true(is_ours, what, folder):
        waited.append(what)
        return is_ours()

    monkeypatch.setattr(fits_outputs, "is_shared", lambda folder: shared)
    monkeypatch.setattr(fits_outputs, "comes_true", comes_true)
    with pytest.raises(OutputError, match="is not the file that this run has made"):
        FitsOutputs(PRODUCTS, tmp_path, RUN)
    assert waited == [str(tmp_path / "output.fits.part")] * shared


def test_files_that_were_shortened_are_not_written_to(tmp_path):
    allocate_files(PRODUCTS, tmp_path, RUN)
    part = tmp_path / "output.fits.part"
    os.truncate(part, part.stat().st_size - 2880)
    with pytest.raises(OutputError, match="is not the file that this run has made"):
        FitsOutputs(PRODUCTS, tmp_path, RUN)


def test_a_disk_that_fills_up_later(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    allocate_files(PRODUCTS, tmp_path, RUN)
    with FitsOutputs(PRODUCTS, tmp_path, RUN) as outputs:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="No space left"):
            write_rows(outputs)


def test_short_writes_are_continued(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
    path = tmp_path / "file"
    with path.open("wb") as file:
        write_all(file.fileno(), bytes(range(100)), 3)
    assert path.read_bytes() == bytes(3) + bytes(range(100))


def test_memory_that_is_not_there():
    exabyte = [Product("output", ImageUnit((1 << 30, 1 << 28)))]
    with pytest.raises(OutputError, match=r"need \d+\.\d GiB.*give out_dir="):
        MemoryOutputs(exabyte, as_hduls=False)


def test_sizes_beyond_32_bits_are_right():
    unit = ImageUnit((70_000, 70_000, 5, 2))
    assert unit.padded_bytes == -(-70_000 * 70_000 * 5 * 2 * 4 // 2880) * 2880


def test_arrays_of_files_in_the_order_of_the_machine_are_what_others_take(tmp_path):
    """The documentation says so of fitsio, which changes pixels of others, and of PyTorch."""
    fitsio, torch = require("fitsio"), require("torch")
    image = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    hduls, (result, _) = predict(
        lambda batch: batch[0], image, 1, 64, (8, 8), stride=(8, 8), aggregate_method="mean_var",
        out_dir=tmp_path, progress=False,
    )  # fmt: skip
    assert result.dtype.str == ">f4"
    native = result.astype("f4")
    fitsio.write(str(tmp_path / "copy.fits"), native)
    np.testing.assert_array_equal(fitsio.read(str(tmp_path / "copy.fits")), result)
    assert torch.from_numpy(native).shape == result.shape
    with pytest.raises((TypeError, ValueError)):
        torch.from_numpy(result)
    for hdul in hduls:
        hdul.close()
