"""Servers that forget files, full quotas and broken disks, as calls of the system tell of them."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import OutputError

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": "mean_var",
    "progress": False,
    "strips": 3,
}


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def predict(out_dir, **options):
    hduls, _ = package.predict(model, IMAGE, out_dir=out_dir, **OPTIONS, **options)
    for hdul in hduls:
        hdul.close()
    return {path.name: fits.getdata(path).tobytes() for path in Path(out_dir).iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return predict(tmp_path_factory.mktemp("whole"))


class Fault:
    """Lets one call of the system fail, of those that concern files of a folder.

    Parameters
    ----------
    folder : Path
        Whose files.
    number : int
        The error.
    at : int
        Which call fails, from 1.
    """

    def __init__(self, folder, number, at):
        self.folder, self.number, self.at, self.calls = str(folder), number, at, 0

    def meet(self, file):
        """Count a call, and raise if it is its turn."""
        place = self.place_of(file)
        if place.startswith(self.folder) and "lock" not in place:
            self.calls += 1
            if self.calls == self.at:
                raise OSError(self.number, os.strerror(self.number), place)

    def place_of(self, file):
        """Return the path of a file that is open or not."""
        return str(Path(f"/proc/self/fd/{file}").readlink()) if isinstance(file, int) else str(file)

    def before(self, real):
        """Return a call that fails instead of doing something."""

        def call(file, *arguments, **options):
            self.meet(file)
            return real(file, *arguments, **options)

        return call

    def after(self, real):
        """Return a call that does something, and then says that it has failed."""

        def call(file):
            place = self.place_of(file)
            real(file)
            self.meet(place)

        return call

    def break_in(self, patch, kind):
        """Let calls of a kind fail: those that open, read, force to disk, or close."""
        if kind == "open":
            for module in (os, io):
                patch.setattr(module, "open", self.before(module.open))
        elif kind == "read":
            for name in ("pread", "preadv", "copy_file_range", "scandir"):
                patch.setattr(os, name, self.before(getattr(os, name)))
        else:
            patch.setattr(os, kind, self.after(getattr(os, kind)))


#: Every how many calls one fails. Of those that open or read there are more.
STEPS = {"open": 11, "read": 7, "fsync": 5, "close": 5}


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    "number",
    [errno.EIO, *(pytest.param(n, marks=pytest.mark.slow) for n in (errno.ESTALE, errno.EDQUOT))],
)
@pytest.mark.parametrize("kind", STEPS)
def test_errors_end_a_run_that_goes_on_right(tmp_path, expected, monkeypatch, kind, number, apart):
    """The error comes once, at the first such call of a run, then at a later one, and so on."""
    failures = 0
    for at in range(1, 40 * STEPS[kind] // 5, STEPS[kind]):
        fault = Fault(tmp_path, number, at)
        out_dir = tmp_path / str(at)
        with monkeypatch.context() as patch:
            fault.break_in(patch, kind)
            try:
                found = predict(out_dir, rows_apart=apart)
            except OutputError as error:
                assert os.strerror(number) in str(error)  # noqa: PT017 - some calls do not fail
                found, failures = None, failures + 1
        if found is None:
            for path in out_dir.glob("*.fits"):  # what has its name is right
                assert fits.getdata(path).tobytes() == expected[path.name]
            found = predict(out_dir, rows_apart=apart, resume=True)
        assert found == expected
        if fault.calls < at:
            break
    assert failures
