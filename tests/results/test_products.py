"""Products: what is kept in place of all results, made of the rows of any run."""

import mmap
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from brute_force import score
from conftest import require, ways_of_folding
from hypothesis import given, settings
from hypothesis import strategies as st
from test_predict_properties import cases

from morpheus_core import (
    InputError,
    ModelError,
    evaluate,
    export_masks,
    export_planes,
    find_candidates,
    plan,
    predict,
    quicklook,
    verify,
)
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.ring import RowRing
from morpheus_core.results.product_runs import ProductRun

IMAGE = np.random.default_rng(4).random((50, 61), dtype=np.float32)
NAMES = ["source", "sky:dark", "a c"]
BOTH = ["mean_var", "rank_vote"]
EVERYTHING = [
    *("class_map:mean_var", "top:mean_var", "margin:rank_vote", "entropy:rank_vote"),
    *("bits:rank_vote", "mean", "variance", "std", "votes", "n", "class_map:rank_vote"),
]


def scores(batch):
    (image,) = batch
    return np.concatenate([image, 1 - image, 0.3 + 0 * image], axis=-1)


def run(products, **options):
    arguments = {
        "stride": (3, 4),
        "aggregate_method": BOTH,
        "class_names": NAMES,
        "progress": False,
        **options,
    }
    return predict(scores, IMAGE, 3, 8, (10, 9), products=products, **arguments)


def read(directory):
    """Return the pixels of all images of products, by name, in memory."""
    with fits.open(directory / "products.fits", memmap=False) as hdus:
        return {hdu.name: hdu.data for hdu in hdus[1:]}


def derived(shares):
    """Return margin and entropy of (height, width, classes), in float64."""
    ordered = np.sort(shares, axis=-1)
    margin = ordered[..., -1] - ordered[..., -2]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = shares / shares.sum(axis=-1, keepdims=True)
        entropy = -np.where(parts > 0, parts * np.log(parts), 0).sum(axis=-1)
    return margin, np.where(np.isnan(shares).any(axis=-1), np.nan, entropy)


@pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")
@pytest.mark.usefixtures("both_kernels")
@pytest.mark.parametrize("strips", [None, 1, 2, 5])
def test_equal_brute_force(tmp_path_factory, strips):
    @settings(max_examples=25 if strips is None else 4)
    @given(case=cases(), collects=st.booleans(), single_rows=st.booleans())
    def check(case, collects, single_rows):
        values = 1 if single_rows else RowRing._BLOCK_VALUES
        folder = None if strips is None else tmp_path_factory.mktemp("run")
        with mock.patch.object(RowRing, "_BLOCK_VALUES", values), ways_of_folding(collects):
            compare(case, folder, strips)

    check()


def compare(case, out_dir, strips):
    images, model, batch_size, options = case
    classes = options["n_classes"]
    wanted = ["class_map:rank_vote", "top:mean_var", "bits:rank_vote", "std", "variance", "n"]
    wanted += ["mean", "votes:class_0", "entropy:rank_vote", "class_map:mean_var"]
    wanted += ["margin:rank_vote"] if classes > 1 else []
    hduls, arrays = predict(
        model,
        images,
        batch_size=batch_size,
        aggregate_method=BOTH,
        products=wanted,
        out_dir=out_dir,
        strips=strips,
        progress=False,
        **options,
    )
    arrays = [np.array(array, array.dtype.newbyteorder("=")) for array in arrays]
    for hdul in hduls:
        hdul.close()
    found = dict(zip(wanted, arrays, strict=True))
    mean, variance, votes, n, visits, square = score(model, images, **options)
    slack = 1e-6 * max(1, np.nanmax(np.abs(mean[np.isfinite(mean)]), initial=0))
    margin, entropy = derived(np.pad(votes, ((0, 0), (0, 0), (0, 1))))
    close(found["n"], n, 1e-6 * max(1, n.max()))
    close(found["votes:class_0"], votes[..., 0], 1e-6)
    close(found["entropy:rank_vote"], entropy, 1e-5)
    close(found["mean"], mean if classes > 1 else mean[..., 0], slack)
    top = np.where(np.isfinite(mean).all(axis=-1), mean.max(axis=-1), np.nan)
    close(found["top:mean_var"], top, slack)
    rounding = 1e-6 * variance + 4 * visits[..., None] * 2.0**-53 * square
    spread = found["variance"].reshape(variance.shape)
    assert np.all((np.abs(spread - variance) <= rounding) | np.isnan(variance))
    close(found["std"], np.sqrt(found["variance"]), 1e-6 * np.sqrt(np.nanmax(variance, initial=0)))
    assert (np.isnan(spread) == np.isnan(variance)).all()
    # Where two classes are equal but for rounding, either is the highest.
    for name, shares, near in (("rank_vote", votes, 1e-6), ("mean_var", mean, slack)):
        class_map = found[f"class_map:{name}"]
        known = np.isfinite(shares).all(axis=-1)
        assert ((class_map == 255) == ~known).all()
        chosen = np.where(known, class_map, 0)[..., np.newaxis]
        picked = np.take_along_axis(shares, chosen.astype(int), axis=-1)[..., 0]
        assert (picked[known] >= shares[known].max(axis=-1) - near).all()
    if classes > 1:
        close(found["margin:rank_vote"], margin, 2e-6)
    for index in range(classes):
        clear = np.abs(votes[..., index] - 0.5) > 1e-6
        flag = (found["bits:rank_vote"] >> index) & 1
        with np.errstate(invalid="ignore"):
            assert (flag[clear] == (votes[..., index] >= 0.5)[clear]).all()


def close(found, expected, slack):
    np.testing.assert_allclose(found, expected, rtol=0, atol=slack)


class TestFiles:
    @pytest.mark.parametrize("apart", [False, True])
    def test_of_strips_hold_what_is_in_memory(self, tmp_path, apart):
        hduls, expected = run(EVERYTHING)
        assert hduls == []
        (hdul,), arrays = run(EVERYTHING, out_dir=tmp_path, strips=3, rows_apart=apart)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["products.fits"]
        for one, other in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        hdul.close()
        assert verify(tmp_path) == []

    def test_has_an_image_for_each_class_in_the_order_asked(self, tmp_path):
        (hdul,), arrays = run(
            ["class_map:mean_var", "mean", ("votes", "sky:dark"), "n"], out_dir=tmp_path
        )
        names = ["CLASS_MAP_MEAN", "SOURCE_MEAN", "SKY_DARK_MEAN", "A_C_MEAN", "SKY_DARK_VOTE", "N"]
        assert [hdu.name for hdu in hdul] == ["PRIMARY", *names]
        assert [array.shape for array in arrays] == [(50, 61), (50, 61, 3), (50, 61), (50, 61)]
        for index, name in enumerate(names[1:4]):
            np.testing.assert_array_equal(arrays[1][..., index], hdul[name].data)
        assert hdul["N"].header["CLASS1"] == "sky:dark"
        hdul.close()

    def test_class_maps_stay_integers_that_are_mapped_into_memory(self, tmp_path):
        (hdul,), (class_map,) = run(["class_map:rank_vote"], out_dir=tmp_path)
        assert class_map.dtype == np.uint8
        with fits.open(tmp_path / "products.fits", memmap=True) as hdus:
            assert hdus[1].data.dtype == np.uint8
            base = hdus[1].data
            while not isinstance(base, mmap.mmap):
                base = base.base  # of what was read, this ends with None
            assert hdus[1].header["NODATA"] == 255
            assert "BLANK" not in hdus[1].header
            del base
        hdul.close()

    def test_class_maps_of_many_classes_are_int16(self):
        model = lambda batch: np.repeat(batch[0][:, :1, :1, 0], 300, axis=-1).reshape(-1, 300)  # noqa: E731
        _, (class_map,) = predict(
            model, IMAGE[:10, :9], 300, 8, (10, 9), products=["class_map"], progress=False
        )
        assert class_map.dtype == np.int16

    def test_pixels_without_a_result(self):
        mask = np.zeros(IMAGE.shape, bool)
        mask[5, 7] = True
        wanted = ["class_map:rank_vote", "top:mean_var", "std", "bits:mean_var", "n"]
        _, arrays = run(wanted, mask=mask, fill_value=-2)
        at = [array[5, 7].tolist() for array in arrays]
        assert at == [255, -2, [-2, -2, -2], 0, 0]
        _, arrays = run(wanted, mask=mask)
        assert np.isnan([arrays[1][5, 7], *arrays[2][5, 7]]).all()

    @pytest.mark.parametrize(("dtype", "steps"), [("uint8", 254), ("int16", 32767)])
    def test_integers_give_probabilities_back(self, tmp_path, dtype, steps):
        wanted = ["mean", "variance", "entropy:mean_var", "votes", "n"]
        mask = np.zeros(IMAGE.shape, bool)
        mask[5, 7] = True
        run(wanted, out_dir=tmp_path / "exact", mask=mask)[0][0].close()
        (hdul,), arrays = run(wanted, out_dir=tmp_path / "rounded", mask=mask, product_dtype=dtype)
        assert {array.dtype.newbyteorder("=").name for array in arrays} == {dtype, "float32"}
        hdul.close()
        exact = read(tmp_path / "exact")
        for name, pixels in read(tmp_path / "rounded").items():
            header = fits.getheader(tmp_path / "rounded" / "products.fits", name)
            error = header.get("MAXERROR", 0)
            assert np.isnan(pixels[5, 7]) or name == "N"
            close(pixels, exact[name], error + 1e-6)
        largest = fits.getval(tmp_path / "rounded" / "products.fits", "MAXERROR", 1)
        assert largest == pytest.approx(1 / steps / 2)

    def test_other_values_than_probabilities_are_refused_as_integers(self, tmp_path):
        with pytest.raises(ModelError, match="holds values from 0 to 1, got"):
            predict(
                lambda batch: 3 * batch[0],
                IMAGE,
                1,
                8,
                (10, 9),
                stride=(3, 4),
                aggregate_method="mean_var",
                products=["mean"],
                product_dtype="uint8",
                out_dir=tmp_path,
                progress=False,
            )


@pytest.mark.parametrize(
    ("products", "options", "message"),
    [
        ("class_map", {}, "products must be a list of names"),
        ([], {}, "products must be a list of names"),
        (["median"], {}, "a product must be one of 'mean', 'variance'"),
        (["mean"], {"aggregate_method": "rank_vote"}, "needs aggregate_method='mean_var'"),
        (["votes"], {"aggregate_method": "mean_var"}, "needs aggregate_method='rank_vote'"),
        (["top:votes"], {}, "the method of 'top:votes' must be one of"),
        (["top:rank_vote"], {"aggregate_method": "mean_var"}, "needs aggregate_method"),
        (["class_map"], {}, "must say of which it is, as in 'class_map:mean_var'"),
        (["mean:star"], {}, "the class of 'mean:star' must be one of"),
        (["n:source"], {}, "the product n is of all classes"),
        (["mean", "mean:source"], {}, "products must differ, got mean:source"),
        (["n"], {"output_dtype": "float64"}, "products are made of float32"),
        (["n"], {"product_dtype": "float16"}, "product_dtype must be one of"),
        (["n"], {"product_dtype": "uint8"}, "product_dtype needs out_dir"),
        (None, {"product_dtype": "uint8", "out_dir": "out"}, "is of products; say which"),
        (
            ["n"],
            {"product_dtype": "uint8", "out_dir": "out", "fill_value": 0},
            "fill_value must be NaN",
        ),
        (["bits:mean_var"], {"thresholds": [0.1]}, "thresholds must be one number, or 3"),
    ],
)
def test_what_cannot_be_given_is_refused_before_any_work(products, options, message, tmp_path):
    if "out_dir" in options:
        options = {**options, "out_dir": tmp_path / "out"}
    with pytest.raises(InputError, match=message):
        run(products, **options)
    assert list(tmp_path.iterdir()) == []


def test_margin_needs_two_classes():
    with pytest.raises(InputError, match="margin is between two classes"):
        predict(lambda b: b[0], IMAGE, 1, 8, (10, 9), products=["margin"], progress=False)


def test_results_are_put_together_of_products(tmp_path):
    for hdul in run(["mean", "variance", "votes", "n"], out_dir=tmp_path)[0]:
        hdul.close()
    _, (mean_var, votes, n) = run(None)
    with ProductRun(tmp_path / "products.fits") as products:
        results = [products.results[method] for method in AGGREGATION_METHODS]
        assert [result.shape for result in results] == [(50, 61, 3, 2), (50, 61, 3)]
        assert [result.read(7, 20).shape for result in results] == [(13, 61, 3, 2), (13, 61, 3)]
        np.testing.assert_array_equal(results[0].read(7, 20), mean_var[7:20])
        np.testing.assert_array_equal(results[1].read(7, 20), votes[7:20])
        np.testing.assert_array_equal(products.n.read(7, 20), n[7:20])


def test_plan_knows_products(tmp_path):
    arguments = (scores, IMAGE, 3, 8, (10, 9))
    options = {"stride": (3, 4), "products": ["class_map", "top"]}
    forecast = plan(*arguments, **options, out_dir=tmp_path)
    assert forecast.outputs == {"CLASS_MAP": (50, 61), "TOP": (50, 61)}
    predict(*arguments, **options, out_dir=tmp_path, progress=False)[0][0].close()
    assert forecast.output_bytes == (tmp_path / "products.fits").stat().st_size


@pytest.mark.parametrize("apart", [False, True])
def test_interrupted_runs_go_on_with_the_same_products_only(tmp_path, apart):
    calls = []

    def model(batch):
        calls.append(1)
        if len(calls) == 20:
            raise RuntimeError
        return scores(batch)

    def go(products, **options):
        return predict(
            model, IMAGE, 3, 8, (10, 9), stride=(3, 4), aggregate_method=BOTH, out_dir=tmp_path,
            products=products, progress=False, strips=2, rows_apart=apart, class_names=NAMES,
            **options,
        )  # fmt: skip

    with pytest.raises(ModelError):
        go(EVERYTHING)
    with pytest.raises(InputError, match=r"products was .*class_map.*, is "):
        go(["n"], resume=True)
    (hdul,), arrays = go(EVERYTHING, resume=True)
    for one, other in zip(arrays, run(EVERYTHING)[1], strict=True):
        np.testing.assert_array_equal(one, other)
    hdul.close()
    assert verify(tmp_path) == []


def test_workers_and_executors_write_the_same(tmp_path):
    expected = run(EVERYTHING)[1]
    with ThreadPoolExecutor(2) as threads:
        (hdul,), arrays = run(EVERYTHING, out_dir=tmp_path, executor=threads, strips=3)
    for one, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    hdul.close()


@pytest.mark.slow
def test_processes_write_the_same(tmp_path):
    (hdul,), arrays = run(EVERYTHING, out_dir=tmp_path, cpus=2)
    for one, other in zip(arrays, run(EVERYTHING)[1], strict=True):
        np.testing.assert_array_equal(one, other)
    hdul.close()


class TestLater:
    """What is made of finished runs, made of products."""

    @pytest.fixture
    def folders(self, tmp_path):
        for name, products in (("all", None), ("some", ["class_map", "mean", "variance", "n"])):
            hduls, _ = run(products, out_dir=tmp_path / name, aggregate_method="mean_var")
            for hdul in hduls:
                hdul.close()
        return tmp_path

    def test_planes_and_masks_are_the_same(self, folders):
        for name in ("all", "some"):
            export_planes(folders / name, folders / f"{name}.fits", first_label=1)
            export_masks(folders / name, folders / f"{name}_masks.fits", 0.6, bit_flags=True)
        with (
            fits.open(folders / "all.fits") as expected,
            fits.open(folders / "some.fits") as found,
        ):
            assert {hdu.name for hdu in found} == {hdu.name for hdu in expected}
            for hdu in expected[1:]:
                np.testing.assert_array_equal(found[hdu.name].data, hdu.data)
            for card in ("NODATA", "CLASS1", "WINDOW"):
                assert found["CLASS_MAP"].header[card] == expected["CLASS_MAP"].header[card]
        masks = [fits.getdata(folders / f"{name}_masks.fits") for name in ("all", "some")]
        np.testing.assert_array_equal(*masks)

    def test_candidates_are_the_same(self, folders):
        pytest.importorskip("scipy")
        tables = [find_candidates(folders / name, "source", 0.6) for name in ("all", "some")]
        assert len(tables[0]) > 0
        np.testing.assert_array_equal(tables[0].as_array(), tables[1].as_array())

    def test_a_look_at_both_is_the_same(self, folders):
        require("matplotlib")
        axes = [quicklook(folders / name).axes[0] for name in ("all", "some")]
        np.testing.assert_array_equal(*[ax.images[0].get_array() for ax in axes])

    @pytest.mark.parametrize(
        ("later", "missing", "package"),
        [
            (
                lambda out, to: quicklook(out),
                "'mean:sky:dark', 'mean:a c', 'variance', 'n'",
                "matplotlib",
            ),
            (lambda out, to: evaluate(out, 0 * IMAGE), "'mean:sky:dark', 'mean:a c'", "numpy"),
            (lambda out, to: export_masks(out, to), "'mean:sky:dark'", "numpy"),
            (lambda out, to: find_candidates(out, "a c", 0.5), "'mean:a c'", "scipy"),
        ],
    )
    def test_all_products_that_are_missing_are_named(self, tmp_path, later, missing, package):
        require(package)
        options = {"aggregate_method": "mean_var", "out_dir": tmp_path}
        run(["class_map", "mean:source"], **options)[0][0].close()
        with pytest.raises(InputError, match=f"are needed: {missing}, and .* holds only"):
            later(tmp_path, tmp_path / "masks.fits")

    @pytest.mark.parametrize("kept", ["mean", "votes"])
    def test_an_evaluation_needs_the_scores_only(self, tmp_path, kept):
        run(["class_map:mean_var", kept], aggregate_method=BOTH, out_dir=tmp_path)[0][0].close()
        method = {"mean": "mean_var", "votes": "rank_vote"}[kept]
        truth = read(tmp_path)["CLASS_MAP_MEAN"]
        table = evaluate(tmp_path, truth, aggregate_method=method).table
        assert [*table["class"]] == NAMES
        if kept == "mean":
            assert [*table["recall"][:1]] == [1]

    def test_other_results_are_not_left_beside(self, folders):
        for name, products in (("all", ["n"]), ("some", None)):
            with pytest.raises(Exception, match="would be left beside results"):
                run(products, out_dir=folders / name, aggregate_method="mean_var", overwrite=True)


def test_command_line(tmp_path):
    fits.writeto(tmp_path / "image.fits", IMAGE)
    (tmp_path / "net.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    return lambda b: np.concatenate([b[0], 1 - b[0]], axis=-1)\n"
    )
    command = [
        *(sys.executable, "-m", "morpheus_core", "predict", "image.fits", "--model", "net:make"),
        *("--n-classes", "2", "--window", "10", "--stride", "5", "--out-dir", "out"),
        *("--product", "class_map", "--product", "votes", "--product-dtype", "uint8"),
        *("--product", "bits", "--threshold", "0.7", "--no-progress"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    names = ["CLASS_MAP", "CLASS_0_VOTE", "CLASS_1_VOTE", "FLAGS"]
    assert [line.split()[1] for line in done.stdout.splitlines()] == names
    assert list(read(tmp_path / "out")) == names
