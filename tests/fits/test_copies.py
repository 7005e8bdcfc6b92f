"""Ranges of files that are copied, by the system or by this process."""

import errno
import os

import pytest

from morpheus_core.fits import blocks
from morpheus_core.fits.blocks import copy_all

CONTENT = bytes(range(256)) * 20
REAL = os.copy_file_range


def refused(number):
    def copy(*_):
        raise OSError(number, os.strerror(number))

    return copy


def piecemeal(source, descriptor, size, start, place):
    """Copy less than is asked for, as systems may."""
    return REAL(source, descriptor, min(size, 100), start, place)


WAYS = {
    "by the system": REAL,
    "piece by piece": piecemeal,
    "not at all": lambda *_: 0,
    **{errno.errorcode[number]: refused(number) for number in blocks.CANNOT_COPY},
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "copy").write_bytes(b"." * 9000)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    copy = os.open(tmp_path / "copy", os.O_RDWR)
    yield source, copy
    os.close(source)
    os.close(copy)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("size", "copied"), [(3001, 3001), (5000, 5000), (6000, 5113)])
def test_copies_are_whole(files, monkeypatch, way, size, copied):
    source, copy = files
    monkeypatch.setattr(os, "copy_file_range", WAYS[way])
    monkeypatch.setattr(blocks, "READ_BYTES", 1000)
    assert copy_all(source, 7, copy, 11, size) == copied
    expected = b"." * 11 + CONTENT[7 : 7 + size]
    assert os.pread(copy, 9000, 0) == expected.ljust(9000, b".")


def test_systems_that_have_no_such_call(files, monkeypatch):
    source, copy = files
    monkeypatch.delattr(os, "copy_file_range")
    assert copy_all(source, 0, copy, 0, 300) == 300
    assert os.pread(copy, 301, 0) == CONTENT[:300] + b"."


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_errors_are_not_taken_for_a_system_that_cannot(files, monkeypatch, number):
    monkeypatch.setattr(os, "copy_file_range", refused(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        copy_all(files[0], 0, files[1], 0, 10)
