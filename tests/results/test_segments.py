"""Regions as an image of labels, and regions of tiles as one table."""

from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sky_headers import sky_header

from morpheus_core import (
    InputError,
    OutputError,
    export_segments,
    find_candidates,
    merge_candidates,
    predict,
)
from morpheus_core.results import finished

SHARES = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 9)),
    elements=st.sampled_from([np.nan, 0, 0.25, 0.5, 0.75, 1]),
)


@pytest.fixture(autouse=True)
def scipy():
    require("scipy")


def in_memory(share):
    return [share[..., np.newaxis], np.ones(share.shape)]


def as_partition(labels):
    """Return which pixels are of one region, whatever it is called."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].reshape(labels.shape) * (labels > 0)


@given(SHARES, st.sampled_from([0.25, 0.75]), st.sampled_from([4, 8]), st.integers(1, 5))
def test_labels_are_those_of_whole_arrays(
    tmp_path_factory, share, threshold, connectivity, rows_at_once
):
    ndimage = require("scipy.ndimage")
    path = tmp_path_factory.getbasetemp() / "labels.fits"
    with mock.patch.object(finished, "BLOCK_BYTES", rows_at_once * 8 * share.shape[1]):
        table = export_segments(
            in_memory(share), path, "class_0", threshold, connectivity=connectivity, overwrite=True
        )
    labels = fits.getdata(path)
    structure = ndimage.generate_binary_structure(2, {4: 1, 8: 2}[connectivity])
    expected, count = ndimage.label(share >= threshold, structure)
    assert labels.dtype == ">i4"
    assert count == len(table)
    np.testing.assert_array_equal(as_partition(labels), as_partition(expected))
    for row in table:
        own = labels == row["id"]
        assert own.sum() == row["area"]
        assert own[row["y_peak"], row["x_peak"]]
        assert share[own].max() == row["peak"]


def test_small_regions_have_no_label(tmp_path):
    share = np.zeros((20, 30), np.float32)
    share[2:5, 3:9], share[10, 10], share[15:17, 20:22] = 0.6, 1, 0.9
    table = export_segments(in_memory(share), tmp_path / "labels.fits", "class_0", 0.5, min_area=4)
    labels = fits.getdata(tmp_path / "labels.fits")
    assert table["id"].tolist() == [1, 2]
    assert (labels[16, 21], labels[3, 4], labels[10, 10]) == (1, 2, 0)
    expected = find_candidates(in_memory(share), "class_0", 0.5, min_area=4)
    assert all((table[name] == expected[name]).all() for name in expected.colnames)


@pytest.fixture
def stored(tmp_path):
    """Run over blobs with any number of strips, and return the folder."""
    random = np.random.default_rng(1)
    image = np.repeat(np.repeat(random.random((12, 10)), 5, axis=0), 5, axis=1)
    fits.writeto(tmp_path / "image.fits", image.astype(np.float32), sky_header())

    def stored(strips):
        hduls, _ = predict(
            lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1),
            tmp_path / "image.fits", 2, 16, (8, 8), stride=(4, 4), class_names=["blob", "sky"],
            aggregate_method="mean_var", cpus=strips if strips > 1 else None, progress=False,
            out_dir=tmp_path / f"run{strips}",
        )  # fmt: skip
        for hdul in hduls:
            hdul.close()
        return tmp_path / f"run{strips}"

    return stored


@pytest.mark.slow
def test_labels_do_not_depend_on_strips(stored, tmp_path):
    labels = []
    for strips in (1, 2, 5):
        path = tmp_path / f"{strips}.fits"
        export_segments(stored(strips), path, "blob", 0.6)
        labels.append(fits.getdata(path))
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])
    assert labels[0].max() > 3


def test_what_an_image_of_labels_says(stored, tmp_path):
    directory = stored(1)
    export_segments(directory, tmp_path / "labels.fits", "blob", 0.6, 2, connectivity=4)
    with fits.open(tmp_path / "labels.fits", checksum=True) as file:
        (hdu,) = file
        header = hdu.header
        assert (hdu.name, header["SEGCLASS"], header["THRESH"]) == ("SEGMENTS", "blob", 0.6)
        assert (header["MINAREA"], header["CONNECT"], header["CTYPE1"]) == (2, 4, "RA---TAN")
        assert header["RUNID"] == fits.getval(directory / "n.fits", "RUNID")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run1/n.fits", "is the name of an output of predict"),
        ("image.fits", "exists already"),
        ("labels.fits.gz", "an export is not compressed"),
        ("nowhere/labels.fits", "there is no folder"),
    ],
)
def test_places_where_labels_cannot_be(stored, tmp_path, name, message):
    with pytest.raises(OutputError, match=message):
        export_segments(stored(1), tmp_path / name, "blob", 0.6)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("pixel", "at_border", "in_overlap"),
    [
        ((0, 15), True, True),
        ((3, 15), False, True),
        ((4, 15), False, False),
        ((10, 29), True, True),
    ],
)
def test_regions_that_other_tiles_may_list_as_well(pixel, at_border, in_overlap):
    share = np.zeros((20, 30), np.float32)
    share[pixel] = 1
    (row,) = find_candidates(in_memory(share), "class_0", 0.5, overlap=4)
    assert (row["at_border"], row["in_overlap"]) == (at_border, in_overlap)
    assert "in_overlap" not in find_candidates(in_memory(share), "class_0", 0.5).colnames


def mosaic(seed, size):
    """Return blobs of at most `size` pixels, some of them at the same height."""
    random = np.random.default_rng(seed)
    share = np.zeros((60, 70), np.float32)
    for _ in range(60):
        height, width = random.integers(1, size + 1, 2)
        y, x = random.integers(0, 60 - height), random.integers(0, 70 - width)
        around = share[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
        if not around.any():  # so that blobs do not grow together
            share[y : y + height, x : x + width] = random.choice([0.6, 0.7, 0.9], (height, width))
    return share


@pytest.mark.parametrize("seed", range(5))
def test_tiles_give_each_region_of_the_whole_once(seed):
    share, overlap = mosaic(seed, size=6), 14
    corners = [(0, 0), (0, 28), (23, 0), (23, 28)]
    tiles = [share[y : y + 37, x : x + 42] for y, x in corners]
    assert tiles[0].shape[0] + tiles[2].shape[0] - overlap == share.shape[0]
    tables = [find_candidates(in_memory(tile), "class_0", 0.5) for tile in tiles]
    whole = find_candidates(in_memory(share), "class_0", 0.5)
    merged = merge_candidates(tables, corners)
    assert sum(map(len, tables)) > len(merged) == len(whole) > 20
    for name in set(whole.colnames) - {"at_border"}:
        np.testing.assert_allclose(merged[name], whole[name], rtol=1e-12)
    for row in merged:
        (own,) = tables[row["tile"]][tables[row["tile"]]["id"] == row["tile_id"]]
        assert own["peak"] == row["peak"]


def test_tiles_that_are_no_tiles():
    table = find_candidates(in_memory(np.ones((5, 5))), "class_0", 0.5)
    with pytest.raises(InputError, match=r"corners must be one .* got 1 for 2 tables"):
        merge_candidates([table, table], [(0, 0)])
    with pytest.raises(InputError, match="must be what find_candidates"):
        merge_candidates([Table({"id": [1]})], [(0, 0)])
    with pytest.raises(InputError, match="a corner must be a whole number >= 0, got -1"):
        merge_candidates([table], [(0, -1)])


def test_photutils_measures_what_is_labelled(tmp_path):
    segmentation = require("photutils.segmentation")
    random = np.random.default_rng(3)
    share = np.zeros((40, 50), np.float32)
    share[5:12, 8:15], share[20:30, 30:38] = 0.9, 0.8
    image = random.normal(0, 0.1, share.shape) + 5 * share
    table = export_segments(in_memory(share), tmp_path / "labels.fits", "class_0", 0.5)
    segments = segmentation.SegmentationImage(fits.getdata(tmp_path / "labels.fits").astype("i4"))
    catalogue = segmentation.SourceCatalog(image, segments)
    assert catalogue.label.tolist() == table["id"].tolist()
    np.testing.assert_allclose(catalogue.segment_area.value, table["area"])
    np.testing.assert_allclose(catalogue.x_centroid, table["x"], atol=0.1)
