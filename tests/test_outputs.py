import errno
import os

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import OutputError
from morpheus_core.outputs import FitsOutputs, MemoryOutputs, Product, write_all

PRODUCTS = [Product("output", (10, 7, 3)), Product("n", (10, 7))]


def blocks(first, rows):
    """Rows whose values say where they belong."""
    whole = [np.arange(np.prod(p.shape), dtype=np.float64).reshape(p.shape) for p in PRODUCTS]
    return [array[first : first + rows] for array in whole]


def fits_outputs(directory, inputs=(), overwrite=False):
    return FitsOutputs(PRODUCTS, directory, inputs=inputs, overwrite=overwrite)


def run(outputs):
    with outputs:
        for first, rows in [(4, 6), (0, 3), (3, 1)]:
            outputs.write(first, blocks(first, rows))
        return outputs.finish()


@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_come_back(tmp_path, on_disk):
    outputs = fits_outputs(tmp_path) if on_disk else MemoryOutputs(PRODUCTS, as_hduls=True)
    hduls, arrays = run(outputs)
    for hdul, array, expected in zip(hduls, arrays, blocks(0, 10), strict=True):
        assert array.dtype.newbyteorder("=") == np.float32
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(hdul[0].data, expected)
        hdul.close()


def test_files_are_padded_and_verify(tmp_path):
    for hdul in run(fits_outputs(tmp_path))[0]:
        hdul.verify("exception")
        hdul.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.fits", "output.fits"]
    assert all(path.stat().st_size % 2880 == 0 for path in tmp_path.iterdir())


def test_arrays_over_files_are_copy_on_write(tmp_path):
    hduls, (output, _) = run(fits_outputs(tmp_path))
    output[0, 0, 0] = 99
    for hdul in hduls:
        hdul.close()
    assert fits.getdata(tmp_path / "output.fits")[0, 0, 0] == 0


def test_directories_are_made(tmp_path):
    for hdul in run(fits_outputs(tmp_path / "a" / "b"))[0]:
        hdul.close()
    assert (tmp_path / "a" / "b" / "output.fits").exists()


@pytest.mark.parametrize("name", ["output.fits", "n.fits"])
def test_existing_files_are_refused(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=rf"{name} exists already; pass overwrite=True"):
        fits_outputs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_overwriting_waits_until_the_new_files_are_complete(tmp_path):
    (tmp_path / "output.fits").write_text("precious")
    with fits_outputs(tmp_path, overwrite=True) as outputs:
        outputs.write(0, blocks(0, 10))
        assert (tmp_path / "output.fits").read_text() == "precious"
        hduls, _ = outputs.finish()
    assert hduls[0][0].shape == (10, 7, 3)
    for hdul in hduls:
        hdul.close()


def test_inputs_are_never_replaced(tmp_path):
    source = tmp_path / "n.fits"
    source.write_text("precious")
    link = tmp_path / "link.fits"
    link.symlink_to(source)
    with pytest.raises(OutputError, match="would replace the input"):
        fits_outputs(tmp_path, inputs=[link], overwrite=True)
    assert source.read_text() == "precious"


def test_nothing_is_left_of_a_run_that_fails(tmp_path):
    (tmp_path / "output.fits").write_text("precious")
    with pytest.raises(ZeroDivisionError), fits_outputs(tmp_path, overwrite=True):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["output.fits"]
    assert (tmp_path / "output.fits").read_text() == "precious"


def test_parts_of_another_run_are_left_alone(tmp_path):
    part = tmp_path / "n.fits.part"
    part.write_text("of another run")
    with pytest.raises(OutputError, match=r"n\.fits\.part is in the way"):
        fits_outputs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["n.fits.part"]
    assert part.read_text() == "of another run"


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write outputs to"):
        fits_outputs(tmp_path / "out")


@pytest.mark.parametrize("allocates", [True, False], ids=["posix_fallocate", "free space check"])
def test_a_disk_that_is_too_small_shows_before_the_run(tmp_path, monkeypatch, allocates):
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    petabytes = [Product("output", (1_000_000, 1_000_000, 500)), Product("n", (10, 7))]
    with pytest.raises(OutputError, match=r"output\.fits needs \d+\.\d\d GiB that cannot be had"):
        FitsOutputs(petabytes, tmp_path, inputs=[], overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_file_systems_that_cannot_allocate(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    for hdul in run(fits_outputs(tmp_path))[0]:
        hdul.close()


def test_a_disk_that_fills_up_later(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    outputs = fits_outputs(tmp_path)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="No space left"):
        run(outputs)
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
    path = tmp_path / "file"
    with path.open("wb") as file:
        write_all(file.fileno(), bytes(range(100)), 3)
    assert path.read_bytes() == bytes(3) + bytes(range(100))


def test_memory_that_is_not_there():
    exabyte = [Product("output", (1 << 30, 1 << 28))]
    with pytest.raises(OutputError, match=r"need \d+\.\d GiB.*give out_dir="):
        MemoryOutputs(exabyte, as_hduls=False)


def test_sizes_beyond_32_bits_are_right():
    product = Product("output", (70_000, 70_000, 5, 2))
    assert product.row_bytes * product.shape[0] == 70_000 * 70_000 * 5 * 2 * 4
