"""What is packed so that it fills a disk or the memory is refused; files for users alone are."""

import bz2
import gzip
import io
import os
import tempfile
import zipfile
from collections import namedtuple

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError
from morpheus_core.images.expansion import expand
from morpheus_core.packages.package import CARD_NAME, MOST_OF_CARD, Files
from morpheus_core.packages.trial import refuse_large
from morpheus_core.storage import unpacking
from morpheus_core.storage.unpacking import copy_bounded
from morpheus_core.storage.whole_files import write_secret

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_an_empty_image_is_unpacked(tmp_path, monkeypatch):
    """It is the most that gzip packs."""
    monkeypatch.setattr(unpacking, "HARMLESS", 0)
    fits.writeto(tmp_path / "a.fits", np.zeros((1500, 1500), np.float32))
    content = (tmp_path / "a.fits").read_bytes()
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(content))
    assert len(content) > 900 * packed.stat().st_size
    assert expand(packed, tmp_path).read_bytes() == content


def test_what_grows_as_no_image_does_is_refused(tmp_path, monkeypatch):
    packed = tmp_path / "a.fits.bz2"
    packed.write_bytes(bz2.compress(bytes(3 << 20)))
    monkeypatch.setattr(unpacking, "HARMLESS", 1 << 20)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"0\.0 MiB must not unpack to more than 1\.0 MiB"):
        expand(packed, tmp_path)
    assert set(tmp_path.iterdir()) == before
    monkeypatch.setattr(unpacking, "HARMLESS", 3 << 20)
    assert expand(packed, tmp_path).stat().st_size == 3 << 20


@pytest.mark.parametrize(("free", "fits_in"), [(53 << 20, True), ((53 << 20) - 1, False)])
def test_some_of_the_disk_stays_free(tmp_path, monkeypatch, free, fits_in):
    usage = Usage(1000 << 20, 0, free)  # of which 50 MiB stay free
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: usage)
    source, target = io.BytesIO(bytes(3 << 20)), io.BytesIO()
    monkeypatch.setattr(unpacking, "BLOCK", 4 << 20)
    if fits_in:
        copy_bounded(source, target, 3 << 20, tmp_path)
        assert target.getvalue() == bytes(3 << 20)
    else:
        with pytest.raises(OSError, match=r"50\.0 MiB of .* must stay free, got 53\.0 MiB before"):
            copy_bounded(source, target, 3 << 20, tmp_path)
        assert target.getvalue() == b""


def test_of_a_large_disk_a_quarter_of_a_gibibyte_stays_free(tmp_path, monkeypatch):
    usage = Usage(1 << 42, 0, 256 << 20)
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: usage)
    unpacking.refuse_to_fill(tmp_path, 0)
    with pytest.raises(OSError, match=r"256\.0 MiB of"):
        unpacking.refuse_to_fill(tmp_path, 1)


def test_a_description_must_fit_into_memory(tmp_path):
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD_NAME, bytes(MOST_OF_CARD + 1))
    with pytest.raises(InputError, match=r"model\.toml in .* at most 1048576 bytes, got more"):
        Files(path).read(CARD_NAME, MOST_OF_CARD)
    assert len(Files(path).read(CARD_NAME, MOST_OF_CARD + 1)) == MOST_OF_CARD + 1


def test_arrays_of_a_test_must_fit_into_memory(monkeypatch):
    content = io.BytesIO()
    np.savez_compressed(content, answer=np.zeros(1000))
    refuse_large(content)
    assert content.tell() == 0
    monkeypatch.setattr("morpheus_core.packages.trial.MOST_OF_TEST", 8000)
    with pytest.raises(ValueError, match="at most 8000 bytes, got 8128"):
        refuse_large(content)


def test_what_is_secret_is_so_from_the_start(tmp_path, monkeypatch):
    path = tmp_path / "model.pkl"
    (tmp_path / "model.tmp").write_text("what a killed process left")
    (tmp_path / "model.tmp").chmod(0o666)
    modes = []
    real = os.fdopen

    def fdopen(descriptor, *arguments):
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        return real(descriptor, *arguments)

    monkeypatch.setattr(os, "fdopen", fdopen)
    before = os.umask(0)
    try:
        write_secret(path, b"weights")
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert path.read_bytes() == b"weights"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["model.pkl"]


def test_what_is_unpacked_is_for_its_user_alone(tmp_path):
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(bytes(2880)))
    before = os.umask(0)
    try:
        assert expand(tmp_path / "a.fits.gz", tmp_path).stat().st_mode & 0o777 == 0o600
        folder = tempfile.mkdtemp(dir=tmp_path)
    finally:
        os.umask(before)
    assert os.stat(folder).st_mode & 0o777 == 0o700  # noqa: PTH116
