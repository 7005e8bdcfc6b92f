"""Pictures of JPEG, PNG and TIFF: which pixel is where, and what becomes of what they may hold."""

import struct
import zlib

import numpy as np
import pytest
from conftest import require

from morpheus_core import InputError
from morpheus_core.images import picture_files
from morpheus_core.images.picture_files import ORIENTATIONS, open_picture, oriented
from morpheus_core.images.stack import open_inputs

Pillow = require("PIL.Image")
tifffile = require("tifffile")
RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (5, 7, 3), np.uint8)
DEEP = RANDOM.integers(0, 1 << 16, (5, 7, 3), np.uint16)


def pixels_of(path, page=None):
    image = open_picture(path, page, "last")
    return image.read(0, image.shape[0])


def png(path, pixels, colour_type):
    """Write a PNG of 16 bits, which Pillow cannot."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    shape = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", shape), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("end", [".png", ".tif", ".TIFF"])
def test_row_0_is_the_top_and_bands_are_red_green_blue(tmp_path, end):
    Pillow.fromarray(COLOUR).save(tmp_path / f"a{end}")
    np.testing.assert_array_equal(pixels_of(tmp_path / f"a{end}"), COLOUR)


@pytest.mark.parametrize("end", [".jpg", ".JPEG"])
def test_jpeg_of_large_patches(tmp_path, end):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :, 0], pixels[16:, :24, 2] = 255, 255  # red above, and blue on the left below
    Pillow.fromarray(pixels).save(tmp_path / f"a{end}", quality=95)
    found = pixels_of(tmp_path / f"a{end}")
    assert found.dtype == np.uint8
    assert abs(found.astype(int) - pixels)[4:12].max() < 8
    assert abs(found.astype(int) - pixels)[20:, :20].max() < 8


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("end", [".png", ".tif"])
def test_pictures_are_as_viewers_show_them(tmp_path, orientation, end):
    """Whoever turned the picture says how to turn it back; Pillow turns it in its own way."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(COLOUR).save(tmp_path / f"a{end}", exif=exif)
    tifffile.imwrite(
        tmp_path / "deep.tif", DEEP, photometric="rgb",
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    np.testing.assert_array_equal(pixels_of(tmp_path / f"a{end}"), oriented(COLOUR, orientation))
    np.testing.assert_array_equal(pixels_of(tmp_path / "deep.tif"), oriented(DEEP, orientation))


def test_orientation_6_is_turned_clockwise():
    """As of a camera held upright: the first stored row is the right column."""
    assert oriented(np.array([[1, 2], [3, 4], [5, 6]]), 6).tolist() == [[5, 3, 1], [6, 4, 2]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float16, np.float32, float])
@pytest.mark.parametrize("bands", [1, 3])
def test_tiff_of_many_bits(tmp_path, dtype, bands):
    pixels = (DEEP[..., :bands] / (1 if np.dtype(dtype).kind in "iu" else 70000)).astype(dtype)
    stored = pixels[..., 0] if bands == 1 else pixels
    kind = "minisblack" if bands == 1 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind)
    tifffile.imwrite(tmp_path / "zip.tif", stored, photometric=kind, compression="zlib")
    for name in ("a.tif", "zip.tif"):
        found = pixels_of(tmp_path / name)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, pixels)


def test_tiff_of_planes_and_with_alpha(tmp_path):
    planes = np.moveaxis(DEEP, -1, 0)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels_of(tmp_path / "p.tif"), DEEP)
    four = np.concatenate([DEEP, DEEP[..., :1]], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif"), DEEP)


def test_pages_are_named_by_brackets(tmp_path):
    for name, pages in {"shallow.tif": COLOUR[..., 0], "deep.tif": DEEP[..., 0]}.items():
        with tifffile.TiffWriter(tmp_path / name) as file:
            for page in (pages, pages + 1):
                file.write(page, photometric="minisblack")
        with pytest.raises(InputError, match=r"2 pages .*say which in brackets, as in .*\[0\]"):
            pixels_of(tmp_path / name)
        with open_inputs(f"{tmp_path}/{name}[1]") as stack:
            np.testing.assert_array_equal(stack.images[0].read(0, 5)[..., 0], pages + 1)
        for wrong in ("2", "SCI"):
            with pytest.raises(InputError, match="page"):
                pixels_of(tmp_path / name, wrong)


def test_png_of_16_bits(tmp_path):
    png(tmp_path / "grey.png", DEEP[..., 0], 0)
    np.testing.assert_array_equal(pixels_of(tmp_path / "grey.png")[..., 0], DEEP[..., 0])
    png(tmp_path / "colour.png", DEEP, 2)
    with pytest.raises(InputError, match=r"must have 8 bits, got 16 .*save it as TIFF"):
        pixels_of(tmp_path / "colour.png")


def test_grey_palettes_and_alpha(tmp_path):
    picture = Pillow.fromarray(COLOUR)
    faint = np.concatenate([COLOUR, COLOUR[..., :1] // 2], axis=-1)
    grey = COLOUR[..., :1]
    palette = picture.quantize(35)
    stored = {
        "grey": (picture.getchannel(0), grey),
        "bits": (Pillow.fromarray(grey[..., 0] > 99), np.where(grey > 99, 255, 0)),
        "alpha": (Pillow.fromarray(faint), COLOUR),
        "grey and alpha": (Pillow.fromarray(faint[..., [0, 3]]), grey),
        "palette": (palette, np.asarray(palette.convert("RGB"))),
    }
    for name, (image, expected) in stored.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(pixels_of(tmp_path / f"{name}.png"), expected, err_msg=name)
    assert len(np.unique(pixels_of(tmp_path / "palette.png").reshape(-1, 3), axis=0)) > 20


def test_other_colours_are_refused(tmp_path):
    Pillow.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="must be grey or red, green and blue, got CMYK"):
        pixels_of(tmp_path / "a.jpg")
    tifffile.imwrite(tmp_path / "w.tif", DEEP[..., 0], photometric="miniswhite")
    with pytest.raises(InputError, match="got MINISWHITE"):
        pixels_of(tmp_path / "w.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.tif"])
def test_large_ones_are_refused_before_they_are_decoded(tmp_path, monkeypatch, name):
    """A small file may claim as many pixels as fill the memory."""
    pixels = np.zeros((40, 50, 3), np.uint16 if name == "deep.tif" else np.uint8)
    if name == "deep.tif":
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", compression="zlib")
    else:
        Pillow.fromarray(pixels).save(tmp_path / name)
    monkeypatch.setattr(picture_files, "MOST_BYTES", 5999)

    def decoded(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", decoded)
    with pytest.raises(InputError, match=r"may take 0 MiB, got .* 50 x .*save it as FITS or .npy"):
        pixels_of(tmp_path / name)


def test_what_pillow_suspects_is_refused(tmp_path, monkeypatch):
    Pillow.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 30)
    with pytest.raises(InputError, match=r"cannot be read as a picture: .*decompression bomb"):
        pixels_of(tmp_path / "a.png")


@pytest.mark.parametrize("end", [".jpg", ".png", ".tif"])
def test_damaged_pictures_and_other_files(tmp_path, end):
    Pillow.fromarray(RANDOM.integers(0, 256, (60, 60, 3), np.uint8)).save(tmp_path / f"a{end}")
    data = (tmp_path / f"a{end}").read_bytes()
    for content in (data[: len(data) // 2], b"", b"<html>not found</html>", b"\x89HDF" + bytes(99)):
        (tmp_path / f"b{end}").write_bytes(content)
        with pytest.raises(InputError, match=r"b\.[a-z]+ cannot be read as a picture"):
            pixels_of(tmp_path / f"b{end}")
    with pytest.raises(InputError, match="no such file"):
        pixels_of(tmp_path / f"c{end}")


def test_bands_of_pictures_are_last(tmp_path):
    Pillow.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(InputError, match='got bands="first"'):
        open_inputs(tmp_path / "a.png", "first")


def test_pictures_at_addresses_are_refused():
    require("fsspec")
    with pytest.raises(InputError, match=r"on this machine; download s3://a/b.jpg first"):
        open_inputs("s3://a/b.jpg")
