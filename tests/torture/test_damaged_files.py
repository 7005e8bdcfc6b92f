"""Ten thousand damaged images and tables: an error of ours, or a result."""

import csv
import signal
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from conftest import require
from damaged_files import damaged, originals

from morpheus_core import MorpheusError, predict, predict_catalog

pytestmark = [pytest.mark.torture, pytest.mark.filterwarnings("ignore")]

IMAGE = np.random.default_rng(3).random((12, 14)).astype("f4")


def flipped(content, random):
    """Change up to four bytes, leave out some, or repeat some."""
    content = bytearray(content)
    for _ in range(random.integers(1, 5)):
        content[random.integers(len(content))] = random.integers(256)
    start, stop = sorted(random.integers(len(content), size=2))
    kind = random.integers(4)
    if kind == 0:
        del content[start:stop]
    elif kind == 1:
        content[start:start] = content[start:stop]
    return bytes(content)


def of_image(path):
    predict(
        lambda batch: np.nanmean(np.float32(batch[0]), axis=-1), path, 1, 64, (2, 3),
        stride=(2, 3), aggregate_method="mean_var", progress=False,
    )  # fmt: skip


def of_catalog(path):
    predict_catalog(
        lambda batch: np.stack([batch[0].mean(axis=(1, 2, 3))] * 2, axis=1),
        IMAGE, path, 2, 8, (3, 3), progress=False,
    )  # fmt: skip


def an_asdf_file(path):
    require("asdf").AsdfFile({"data": IMAGE}).write_to(path)


def a_table(path):
    rows = StringIO()
    csv.writer(rows).writerows(
        [("id", "x", "y"), *((k, k % 14 + 0.25, k % 12 + 0.5) for k in range(30))]
    )
    path.write_text(rows.getvalue())


OTHERS = {
    "asdf": ("image.asdf", an_asdf_file, of_image, 1000),
    "csv": ("rows.csv", a_table, of_catalog, 2600),
}


def try_all(path, contents, use):
    """Return how many of the files gave a result; all others gave an error of ours."""
    read = 0
    signal.alarm(3000)  # one that makes reading hang
    try:
        for content in contents:
            path.write_bytes(content)
            try:
                use(path)
                read += 1
            except MorpheusError:
                pass
    finally:
        signal.alarm(0)
    return read


@pytest.mark.parametrize("kind", list(originals()))
def test_fits(tmp_path, kind):
    random, content = np.random.default_rng(len(kind)), originals()[kind]
    contents = (damaged(content, random) for _ in range(1280))
    print(kind, try_all(tmp_path / "image.fits", contents, of_image), "of 1280 were read")


@pytest.mark.parametrize("kind", OTHERS)
def test_others(tmp_path, kind):
    name, make, use, count = OTHERS[kind]
    path = Path(tmp_path / name)
    make(path)
    use(path)  # what is not damaged
    random, content = np.random.default_rng(len(kind)), path.read_bytes()
    contents = (flipped(content, random) for _ in range(count))
    print(kind, try_all(path, contents, use), "of", count, "were read")
