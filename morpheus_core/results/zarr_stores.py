"""Outputs as stores of Zarr: a group with an array for each image."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from astropy.io import fits

from morpheus_core.fits.blocks import writing
from morpheus_core.fits.units import Unit, units_of
from morpheus_core.results.stored_images import METADATA, STORE

#: The most bytes of a chunk before it is packed; a row of them is in memory when rows are read.
CHUNK_BYTES = 1 << 19
#: Rows and columns of a chunk at most: what programs draw at once.
CHUNK_EDGE = 256
#: Chunks along each side of a shard, which is one file and is in memory when it is written.
SHARD_CHUNKS = 16


def make_store(plain: Path, part: Path) -> None:
    """Make a store of the images of a plain FITS file.

    Parameters
    ----------
    plain : Path
        A complete file.
    part : Path
        The folder that is made; it is not there afterwards if that fails.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import zarr

    shutil.rmtree(part, ignore_errors=True)
    try:
        with writing(part):
            group = zarr.create_group(part, zarr_format=3)
            sums = {}
            for unit in units_of(plain):
                if unit.shape:
                    name = array_name(unit, part)
                    write_array(group, name, unit)
                    sums[name] = digest_of(part / name / METADATA)
            group.attrs["sha256"] = sums
            sync(part)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def array_name(unit: Unit, part: Path) -> str:
    """Return what an image is called: as its HDU, or as the file if that holds nothing else."""
    if "SIMPLE" in unit.header:
        return part.name.removesuffix(".part").removesuffix(STORE)
    return str(unit.header["EXTNAME"])


def write_array(group: Any, name: str, unit: Unit) -> None:
    """Write an image, shard by shard."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    chunks = chunk_shape(unit)
    shards = shard_shape(unit, chunks)
    array = group.create_array(
        name,
        shape=unit.shape,
        dtype=unit.dtype.newbyteorder("="),
        chunks=chunks,
        shards=shards,
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()],
        dimension_names=dimensions(unit.header, len(unit.shape)),
        attributes={"header": cards(unit.header), "class_names": class_names(unit.header)},
        # A chunk that is left out would be read as the fill value, whatever was computed.
        config={"write_empty_chunks": True},
    )
    for rows in slices(unit.shape[0], shards[0]):
        for columns in slices(unit.shape[1], shards[1]):
            array[rows, columns] = unit.cut(rows, columns)


def chunk_shape(unit: Unit) -> tuple[int, ...]:
    """Return the shape of a chunk: a square of whole pixels."""
    pixel, edge = unit.dtype.itemsize * prod(unit.shape[2:]), CHUNK_EDGE
    while edge > 1 and edge * edge * pixel > CHUNK_BYTES:
        edge //= 2
    return min(edge, unit.shape[0]), min(edge, unit.shape[1]), *unit.shape[2:]


def shard_shape(unit: Unit, chunks: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a shard: some chunks, and not more than there are."""
    sides = [
        chunk * min(SHARD_CHUNKS, -(-length // chunk))
        for length, chunk in zip(unit.shape[:2], chunks, strict=False)
    ]
    return sides[0], sides[1], *unit.shape[2:]


def slices(length: int, step: int) -> Iterator[slice]:
    """Yield the parts of an axis."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def dimensions(header: fits.Header, count: int) -> list[str]:
    """Return the names of axes, which a header has of those that are not on the sky."""
    others = [header.get(f"CTYPE{axis}", f"axis{axis}") for axis in range(count - 2, 0, -1)]
    return ["y", "x", *(str(name).lower() for name in others)]


def cards(header: fits.Header) -> list[str]:
    """Return the cards of a header as lines."""
    text: str = header.tostring(sep="\n", endcard=False, padding=False)
    return text.split("\n")


def class_names(header: fits.Header) -> list[str]:
    """Return the names of classes that a header has."""
    names: list[str] = []
    while f"CLASS{len(names)}" in header:
        names.append(str(header[f"CLASS{len(names)}"]))
    return names


def digest_of(path: Path) -> str:
    """Return a checksum of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sync(folder: Path) -> None:
    """Wait until all files in a folder are on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
