"""A disk that is full before the run, or fills up during it."""

import os

import numpy as np
import pytest
from conftest import fill

from morpheus_core import OutputError, export_planes, predict

IMAGE = np.random.default_rng(0).random((120, 100), dtype=np.float32)


def run(out_dir=None, n_classes=2, on_call=lambda call: None, **options):
    calls = []

    def model(batch):
        calls.append(len(batch[0]))
        on_call(len(calls))
        return np.concatenate([batch[0]] * n_classes, axis=-1)

    hduls, arrays = predict(
        model,
        IMAGE,
        n_classes,
        64,
        (20, 20),
        stride=(4, 4),
        aggregate_method="mean_var",
        out_dir=out_dir,
        progress=False,
        **options,
    )
    arrays = [np.array(array, np.float32) for array in arrays]
    for hdul in hduls:
        hdul.close()
    return arrays, sum(calls)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_full_disk_shows_before_the_first_batch(small_disk):
    called = []
    with pytest.raises(OutputError, match=r"output\.fits\.part needs .* that cannot be had there"):
        run(small_disk, n_classes=20, on_call=called.append)
    assert called == []
    assert names(small_disk) == []


def test_a_disk_that_fills_up_stops_a_run_of_products(small_disk, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    options = {"n_classes": 4, "products": ["class_map", "mean"]}
    expected, windows = run(**options)

    def on_call(call):
        if call == 8:
            fill(small_disk)

    with pytest.raises(OutputError, match="No space left"):
        run(small_disk, on_call=on_call, **options)
    (small_disk / "filler").unlink()
    assert "products.fits" not in names(small_disk)
    resumed, again = run(small_disk, resume=True, **options)
    for one, other in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < again < windows


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_later(small_disk, monkeypatch):
    """Where blocks cannot be reserved, as on some file systems."""
    monkeypatch.delattr(os, "posix_fallocate")
    expected, windows = run()

    def on_call(call):
        if call == 8:
            fill(small_disk)

    with pytest.raises(OutputError, match="No space left") as failure:
        run(small_disk, on_call=on_call)
    assert "resume=True continues from there" in "".join(failure.value.__notes__)
    (small_disk / "filler").unlink()
    assert "output.fits" not in names(small_disk)
    resumed, again = run(small_disk, resume=True)
    assert names(small_disk) == ["n.fits", "output.fits"]
    for one, other in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < again < windows


def test_a_full_disk_leaves_nothing_of_an_export(small_disk):
    run(small_disk)
    export_planes(small_disk, small_disk / "planes.fits")
    fill(small_disk)
    with pytest.raises(OutputError, match="No space left"):
        export_planes(small_disk, small_disk / "more_planes.fits")
    assert names(small_disk) == ["filler", "n.fits", "output.fits", "planes.fits"]
