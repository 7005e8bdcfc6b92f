"""Every kind of real file goes through `predict`, or is refused for the right reason."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, MorpheusWarning, predict
from morpheus_core.images.stack import open_inputs

pytestmark = pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")

#: File, image in it, and its height and width.
READABLE = [
    ("abell_2744_cd_galaxy_f105w.fits.gz", "", (400, 400)),
    ("candels_f160w.fits", "", (480, 738)),
    ("comp.fits", "", (300, 440)),
    ("gmos_mef.fits", "[SCI]", (150, 200)),
    ("gmos_mef.fits", "[3]", (150, 200)),
    ("m13.fits", "", (300, 300)),
    ("m13_gzip.fits", "", (300, 300)),
    ("m13_hcomp.fits", "", (300, 300)),
    ("m13_plio.fits", "", (300, 300)),
    ("m13_rice.fits", "", (300, 300)),
    ("mixed_types_mef.fits", "[0]", (162, 162)),
    ("mixed_types_mef.fits", "[2]", (162, 162)),
    ("ntt_scaled.fits", "", (256, 256)),
    ("o4sp040b0_raw.fits", "[SCI,2]", (44, 62)),
    ("saao_uint16.fits", "", (520, 536)),
    ("scale.fits", "", (21, 20)),
    ("test0.fits", "[SCI,3]", (40, 40)),
]
REFUSED = [
    ("gmos_mef.fits", r"must hold one image, got 3: \[1\] SCI \(150, 200\), \[2\] VAR"),
    ("mixed_types_mef.fits", r"got 3: \[0\] PRIMARY \(162, 162\), \[1\] unnamed"),
    ("o4sp040b0_raw.fits", r"got 2: \[1\] SCI \(44, 62\), \[4\] SCI,2"),
    ("o4sp040b0_raw.fits[DQ]", r"\[DQ\] names no image of .*, which holds \[1\] SCI"),
    ("test0.fits", r"got 4: \[1\] SCI \(40, 40\).*\[4\] SCI,4"),
    ("test0.fits[0]", r"\[0\] names no image"),
    (
        "hsc_grizy_cube.fits",
        r"a height and width of \(5, 50\).* say where they are with bands=",
    ),
    ("scale.fits", r"as large as the window, got a height and width of \(21, 20\)"),
]


def mean_and_n(path, window=(16, 16), **options):
    """Return the mean of every pixel, (height, width), and n."""
    hduls, ((mean,), n) = run(path, window, **options)
    for hdul in hduls:
        hdul.close()
    return mean, n


def run(path, window, **options):
    hduls, (output, n) = predict(
        lambda batch: batch[0].mean(axis=-1, dtype=np.float64),
        path,
        1,
        50,
        window,
        stride=(7, 9),
        aggregate_method="mean_var",
        output_dtype="float64",
        progress=False,
        **options,
    )
    return hduls, ((output[..., 0, 0],), n)


def test_no_file_is_forgotten(data):
    names = {path.name for path in (data / "fits").iterdir()}
    tested = [name.partition("[")[0] for name, *_ in (*READABLE, *REFUSED)]
    assert names == set(tested)


@pytest.mark.parametrize(("name", "extension", "shape"), READABLE)
def test_mean_of_a_pixel_is_what_astropy_reads(data, tmp_path, name, extension, shape):
    path = f"{data / 'fits' / name}{extension}"
    mean, n = mean_and_n(path, out_dir=tmp_path)
    assert mean.shape == n.shape == shape
    assert n.min() >= 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cards that are not as they should be
        expected = what_astropy_reads(data / "fits" / name, extension.strip("[]"))
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def what_astropy_reads(path, extension):
    with fits.open(path) as file:
        name, _, version = extension.partition(",")
        if name.isdigit():
            hdu = file[int(name)]
        elif name:
            hdu = file[name, int(version or 1)]
        else:
            (hdu,) = (hdu for hdu in file if hdu.is_image and hdu.shape)
        return hdu.data.astype(np.float64)


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_refused(data, name, message):
    with pytest.raises(InputError, match=message):
        mean_and_n(data / "fits" / name, (40, 40))


@pytest.mark.parametrize("encoding", ["rice", "hcomp", "gzip", "plio"])
def test_encodings_of_one_image_give_the_same(data, encoding):
    plain = mean_and_n(data / "fits" / "m13.fits")
    np.testing.assert_array_equal(mean_and_n(data / "fits" / f"m13_{encoding}.fits"), plain)


def test_camera_counts_give_what_their_copy_as_floats_gives(data, tmp_path):
    source = data / "fits" / "saao_uint16.fits"
    fits.writeto(tmp_path / "float.fits", fits.getdata(source).astype(np.float32))
    with open_inputs(source) as stack:
        assert stack.images[0].dtype == np.uint16
    np.testing.assert_array_equal(mean_and_n(source), mean_and_n(tmp_path / "float.fits"))


def test_bands_first_and_last_give_the_same(data, tmp_path):
    source = data / "fits" / "hsc_grizy_cube.fits"
    fits.writeto(tmp_path / "last.fits", np.moveaxis(fits.getdata(source), 0, -1))
    first = mean_and_n(source, bands="first")
    assert first[0].shape == (50, 50)
    np.testing.assert_array_equal(first, mean_and_n(tmp_path / "last.fits"))


@pytest.mark.filterwarnings("always::morpheus_core.MorpheusWarning")
def test_bands_that_are_elsewhere_are_suspected(data):
    message = r'5 rows, 50 columns and 50 bands; if that is not what it is, pass bands="first"'
    with pytest.warns(MorpheusWarning, match=message):
        mean_and_n(data / "fits" / "hsc_grizy_cube.fits", (3, 3))


@pytest.mark.filterwarnings("error::morpheus_core.MorpheusWarning")
@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_blank_windows_of_a_real_mosaic_never_reach_the_model(data, tmp_path, cpus):
    source = data / "fits" / "candels_f160w.fits"
    pixels = fits.getdata(source)
    window, stride = 40, 10
    windows = np.lib.stride_tricks.sliding_window_view(np.isfinite(pixels), (window, window))
    expected = int(windows[::stride, ::stride].any(axis=(2, 3)).sum())

    def model(batch):
        assert not np.isnan(batch[0]).all(axis=(1, 2, 3)).any()
        with (tmp_path / "seen").open("a") as file:
            file.write(f"{len(batch[0])}\n")
        return np.concatenate([batch[0], 1 - batch[0]], axis=-1)

    def outputs(name, **options):
        hduls, arrays = predict(
            model if options.get("skip_blank") else lambda batch: model.__wrapped__(batch),
            source,
            2,
            64,
            (window, window),
            stride=(stride, stride),
            aggregate_method="mean_var",
            edges="drop",
            out_dir=tmp_path / name,
            progress=False,
            **options,
        )
        arrays = [np.array(array) for array in arrays]
        for hdul in hduls:
            hdul.close()
        return arrays

    model.__wrapped__ = lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*reached by no window", MorpheusWarning)
        every, _ = outputs("every")
        some, n = outputs("some", skip_blank=True, cpus=cpus)
    seen = sum(map(int, (tmp_path / "seen").read_text().split()))
    assert seen == expected < 0.4 * windows[::stride, ::stride].shape[0] * windows.shape[1] / stride
    valid = np.isfinite(pixels) & (n > 0)
    assert valid.sum() > 80_000
    np.testing.assert_array_equal(some[valid], every[valid])
