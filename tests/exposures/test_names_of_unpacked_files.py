"""Whatever is said of a file names the user's, not the temporary one that it was unpacked to."""

import gzip
import logging

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, MorpheusWarning, map_exposures, predict
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.stack import open_inputs, reopen

PIXELS = np.random.default_rng(0).random((40, 30), dtype="f4")
RUN = {"n_classes": 2, "batch_size": 8, "window_shape": (10, 10), "stride": (10, 10)}
RUN["progress"] = False
#: What the names of temporary files have.
TEMPORARY = ("morpheus_core-", ".morpheus-map", "input_0", "mask_0")


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def packed(path, content):
    path.write_bytes(gzip.compress(bytes(content)))
    return path


@pytest.fixture
def damaged(tmp_path):
    """A packed file, of which a bit has changed, with SIP cards that nothing announces."""
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    header.update({"CDELT1": -1e-4, "CDELT2": 1e-4, "A_ORDER": 2, "B_ORDER": 2})
    fits.writeto(tmp_path / "image.fits", PIXELS, header, checksum=True)
    content = bytearray((tmp_path / "image.fits").read_bytes())
    content[4000] ^= 1
    return packed(tmp_path / "image.fits.gz", content)


def refuse_temporary_names(texts):
    assert [text for text in texts if any(name in text for name in TEMPORARY)] == []


def test_warnings_of_exposures(damaged, tmp_path):
    with pytest.warns(MorpheusWarning) as warned:
        (outcome,) = map_exposures(model, [damaged], **RUN, out_dir=tmp_path / "masks")
    texts = [str(one.message) for one in warned]
    refuse_temporary_names(texts)
    assert all(str(damaged) in text for text in texts)
    assert {text.split(" ")[1] for text in texts} == {"is", "has"}  # both warnings
    assert fits.getheader(outcome.output)["INPUT0"] == "image.fits.gz[0]"


def test_errors_of_exposures(damaged, tmp_path):
    options = {**RUN, "check_sums": "error", "out_dir": tmp_path / "masks"}
    (outcome,) = map_exposures(model, [damaged], **options)
    refuse_temporary_names([str(outcome.error)])
    assert f"{damaged}[0] is not what its" in str(outcome.error)


def test_tiles_of_packed_files(tmp_path, monkeypatch, caplog):
    """Such a file is unpacked twice: as a whole, and then its tiles."""
    monkeypatch.setattr("morpheus_core.images.fits_images.KEPT_TILES", 100)
    tiles = fits.CompImageHDU(PIXELS, tile_shape=PIXELS.shape, compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(tmp_path / "tiles.fits")
    path = packed(tmp_path / "tiles.fits.gz", (tmp_path / "tiles.fits").read_bytes())
    caplog.set_level(logging.INFO, "morpheus_core")
    predict(model, path, **RUN)
    sources = [record.args[0] for record in caplog.records if "unpacking" in record.msg]
    assert sources == [str(path), str(path)]
    monkeypatch.setattr("morpheus_core.images.expansion.header_bytes", lambda header: 1 / 0)
    with pytest.raises(InputError, match=r"tiles\.fits\.gz is damaged, or there is no space") as e:
        predict(model, path, **RUN)
    refuse_temporary_names([str(e.value)])


@pytest.mark.parametrize("kind", ["packed", "array", "tiles"])
def test_workers_call_images_as_the_user_does(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("morpheus_core.images.fits_images.KEPT_TILES", 100)
    source = PIXELS
    if kind != "array":
        image = fits.ImageHDU if kind == "packed" else fits.CompImageHDU
        fits.HDUList([fits.PrimaryHDU(), image(PIXELS)]).writeto(tmp_path / "image.fits")
        source = packed(tmp_path / "image.fits.gz", (tmp_path / "image.fits").read_bytes())
    with open_inputs(source, mask=PIXELS > 0.5) as stack:
        names = [part.name for part in stack.images_and_masks]
        assert names[1] == "mask"
        with reopen(stack.store(tmp_path)) as other:
            assert [part.name for part in other.images_and_masks] == names
            if isinstance(other.images[0], FitsImage):
                other.images[0].close()
                with pytest.raises(InputError, match=rf"^{source}: rows 0 to 2 cannot be read"):
                    other.images[0].read(0, 3)
