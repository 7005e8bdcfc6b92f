"""Metrics of pixels are those of scikit-learn, however the rows are cut."""

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.wcs import WCS
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import InputError, OutputError, evaluate, export_planes, predict
from morpheus_core.cli import main
from morpheus_core.evaluation.counts import LEVELS, Counts, Pixels
from morpheus_core.evaluation.reports import PixelEvaluation, pixel_table
from morpheus_core.results import finished

NAMES = ["star", "galaxy", "sky"]
SHAPE = (30, 41)
RANDOM = np.random.default_rng(4)
SCORES = RANDOM.dirichlet(np.full(3, 0.6), SHAPE)
LABELS = np.where(RANDOM.random(SHAPE) < 0.7, SCORES.argmax(axis=-1), RANDOM.integers(0, 3, SHAPE))
N = np.ones(SHAPE)
RESULTS = [SCORES, N]


def rounded(scores):
    return np.rint(scores * (LEVELS - 1)) / (LEVELS - 1)


def check_class(evaluation, stratum, truth, scores, predicted, weights, name):
    """Compare a row of the table, and curves, with scikit-learn."""
    metrics, calibration = require("sklearn.metrics"), require("sklearn.calibration")
    (row,) = [one for one in evaluation.table if (one["class"], one["stratum"]) == (name, stratum)]
    scores, given = rounded(scores), {"sample_weight": weights}
    expected = {
        "precision": metrics.precision_score(truth, predicted, **given),
        "recall": metrics.recall_score(truth, predicted, **given),
        "dice": metrics.f1_score(truth, predicted, **given),
        "iou": metrics.jaccard_score(truth, predicted, **given),
        "roc_area": metrics.roc_auc_score(truth, scores, **given),
        "average_precision": metrics.average_precision_score(truth, scores, **given),
        "brier": metrics.brier_score_loss(truth, scores, **given),
    }
    for key, value in expected.items():
        assert_allclose(row[key], value, rtol=1e-9, atol=1e-12, err_msg=key)
    false, true, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False, **given)
    curve = evaluation.roc(name, stratum)
    places = LEVELS - 1 - np.rint(thresholds[1:] * (LEVELS - 1)).astype(int)
    assert_allclose(curve["threshold"][places], thresholds[1:])
    assert_allclose(curve["false_positives"][places], false[1:], atol=1e-12)
    assert_allclose(curve["true_positives"][places], true[1:], atol=1e-12)
    if weights is None:
        bins = evaluation.reliability(name, stratum)
        bins = bins[bins["pixels"] > 0]
        shares, means = calibration.calibration_curve(truth, scores, n_bins=10)
        assert_allclose(bins["share"], shares, atol=1e-12)
        assert_allclose(bins["score"], means, atol=1e-12)
        apart = bins["pixels"] * abs(bins["share"] - bins["score"])
        assert_allclose(row["calibration_error"], apart.sum() / len(truth), atol=1e-12)


def check_labels(evaluation, stratum="all", chosen=None, weights=None):
    """Compare an evaluation of RESULTS against LABELS with scikit-learn."""
    metrics = require("sklearn.metrics")
    chosen = np.ones(SHAPE, bool) if chosen is None else chosen
    truth, scores = LABELS[chosen], SCORES[chosen]
    weights = None if weights is None else weights[chosen]
    predicted = scores.argmax(axis=-1)
    matrix = metrics.confusion_matrix(truth, predicted, sample_weight=weights, labels=range(3))
    confusion = evaluation.confusion(stratum)
    assert list(confusion["true"]) == list(evaluation.class_names)
    assert_allclose(np.array([confusion[name] for name in NAMES]).T, matrix, rtol=1e-12)
    (overall,) = evaluation.overall[evaluation.overall["stratum"] == stratum]
    accuracy = metrics.accuracy_score(truth, predicted, sample_weight=weights)
    assert_allclose(overall["accuracy"], accuracy, rtol=1e-12)
    iou = metrics.jaccard_score(truth, predicted, average="macro", sample_weight=weights)
    assert_allclose(overall["mean_iou"], iou, rtol=1e-12)
    one_hot = np.eye(3)[truth]
    sum_of_squares = ((rounded(scores) - one_hot) ** 2).sum(axis=1)
    assert_allclose(overall["brier"], np.average(sum_of_squares, weights=weights), rtol=1e-9)
    for index, name in enumerate(NAMES):
        is_class = truth == index
        check_class(
            evaluation, stratum, is_class, scores[:, index], predicted == index, weights, name
        )


@pytest.mark.parametrize("rows", [1, 7, 30])
def test_labels(monkeypatch, rows):
    monkeypatch.setattr(finished, "BLOCK_BYTES", rows * 41 * 3 * 8)
    check_labels(evaluate(RESULTS, LABELS, class_names=NAMES))


def test_weights():
    weights = RANDOM.integers(0, 4, SHAPE) / 4
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES, weights=weights)
    check_labels(evaluation, weights=weights)
    assert evaluation.table.meta["WEIGHT0"] == np.count_nonzero(weights == 0)


def test_strata_of_an_image_and_of_the_border():
    magnitudes = RANDOM.uniform(18, 25, SHAPE)
    magnitudes[3] = np.nan
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES, strata=(magnitudes, [18, 20, 22.5]))
    assert evaluation.strata == ("18 to 20", "20 to 22.5")
    check_labels(evaluation)
    check_labels(evaluation, "18 to 20", (magnitudes >= 18) & (magnitudes < 20))
    check_labels(evaluation, "20 to 22.5", (magnitudes >= 20) & (magnitudes < 22.5))
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES, strata=("border", [0, 4, 99]))
    inner = np.zeros(SHAPE, bool)
    inner[4:-4, 4:-4] = True
    check_labels(evaluation, "0 to 4", ~inner)
    check_labels(evaluation, "4 to 99", inner)


def test_pixels_that_are_left_out():
    mask = RANDOM.random(SHAPE) < 0.2
    n, truth = N.copy(), LABELS.astype(np.float32)
    n[20:22], truth[5, :9], truth[6, :9] = 0, -1, np.nan
    chosen = ~mask & (n > 0) & (truth >= 0)
    evaluation = evaluate([SCORES, n], truth, class_names=NAMES, mask=mask)
    check_labels(evaluation, chosen=chosen)
    assert evaluation.table.meta["COMPARED"] == chosen.sum()
    assert evaluation.table.meta["MASKED"] == mask.sum()
    check_labels(evaluate([SCORES, n], NDData(truth, mask=mask), class_names=NAMES), chosen=chosen)


@pytest.mark.parametrize("form", ["last", "first", "list"])
def test_planes(form):
    metrics = require("sklearn.metrics")
    planes = RANDOM.random((*SHAPE, 3)) < SCORES
    truth = {
        "last": planes,
        "first": np.moveaxis(planes, -1, 0),
        "list": [*np.moveaxis(planes, -1, 0).astype(np.uint8)],
    }[form]
    evaluation = evaluate(RESULTS, truth, class_names=NAMES)
    for index, name in enumerate(NAMES):
        flat, scores = planes[..., index].ravel(), SCORES[..., index].ravel()
        taken = rounded(scores) >= 0.5
        check_class(evaluation, "all", flat, scores, taken, None, name)
    expected = [metrics.jaccard_score(planes[..., k].ravel(), SCORES[..., k].ravel() >= 0.5)
                for k in range(3)]  # fmt: skip
    assert_allclose(evaluation.table["iou"], expected, atol=0.01)
    with pytest.raises(InputError, match="confusion needs a truth of labels"):
        evaluation.confusion()
    assert np.isnan(evaluation.overall["accuracy"][0])


def test_a_single_class():
    truth = RANDOM.random(SHAPE) < SCORES[..., 0]
    evaluation = evaluate([SCORES[..., :1], N], truth, class_names=["lens"])
    scores = SCORES[..., 0].ravel()
    check_class(evaluation, "all", truth.ravel(), scores, rounded(scores) >= 0.5, None, "lens")


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_sums_are_the_same_in_any_order(data):
    order = data.draw(st.permutations(range(12)))
    edges = sorted(data.draw(st.sets(st.integers(1, SHAPE[0] * SHAPE[1] - 1), max_size=11)))
    scores, truth = SCORES.reshape(-1, 3), LABELS.ravel()
    strata = np.arange(len(truth)) % 3
    whole, parts = Counts.none(3, 3, False), Counts.none(3, 3, False)
    whole.add(Pixels(scores, truth, strata, None))
    cut = [np.split(array, edges) for array in (scores, truth, strata)]
    for place in order:
        if place <= len(edges):
            parts.add(Pixels(*(array[place] for array in cut), None))
    for name in ("scores", "winners", "confusion"):
        assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_metrics_of_parts_in_another_order():
    parts = Counts.none(1, 3, False)
    for rows in (slice(20, 30), slice(3), slice(3, 20)):
        scores, truth = SCORES[rows].reshape(-1, 3), LABELS[rows].ravel()
        parts.add(Pixels(scores, truth, np.zeros(len(truth), np.int64), None))
    table = pixel_table(parts, NAMES, (), True)
    check_labels(PixelEvaluation(table, tuple(NAMES), (), True, parts))


def test_calibration_of_the_winner():
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES)
    highest, right = rounded(SCORES.max(axis=-1)), SCORES.argmax(axis=-1) == LABELS
    bins = np.searchsorted(np.linspace(0, 1, 11)[1:-1], highest)
    apart = [
        abs(highest[bins == k].mean() - right[bins == k].mean()) * (bins == k).mean()
        for k in np.unique(bins)
    ]
    assert_allclose(evaluation.overall["calibration_error"][0], sum(apart), rtol=1e-12)


def test_classes_that_do_not_occur_have_no_recall():
    evaluation = evaluate(RESULTS, np.zeros(SHAPE, int), class_names=NAMES)
    rows = evaluation.table
    assert np.isnan(rows["recall"][1])
    assert np.isnan(rows["roc_area"]).all()
    assert rows["precision"][0] == 1


def header(shift=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150, 2)
    wcs.wcs.crpix, wcs.wcs.cdelt = (20 + shift, 15), (-1e-4, 1e-4)
    return wcs.to_header()


def of_pixel(batch):
    return np.tile([0.2, 0.5, 0.3], (len(batch[0]), 4, 4, 1))


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run whose image is on the sky."""
    fits.writeto(tmp_path / "image.fits", np.zeros(SHAPE, np.float32), header())
    hdus, _ = predict(
        of_pixel, tmp_path / "image.fits", 3, 8, (4, 4), stride=(3, 3), class_names=NAMES,
        aggregate_method="mean_var", out_dir=tmp_path / "run", progress=False,
    )  # fmt: skip
    for one in hdus:
        one.close()
    return tmp_path / "run"


def test_a_run_on_disk(run, tmp_path):
    fits.writeto(tmp_path / "truth.fits", LABELS.astype(np.int16), header())
    evaluation = evaluate(run, tmp_path / "truth.fits")
    assert evaluation.class_names == tuple(NAMES)
    share = np.mean(LABELS == 1)
    assert_allclose(evaluation.table["precision"][1], share)
    assert_allclose(evaluation.table["brier"][1], 0.25, atol=1e-3)


@pytest.mark.parametrize("first", [0, 1])
def test_class_maps_say_how_they_count(run, tmp_path, first):
    export_planes(run, tmp_path / "planes.fits", first_label=first)
    with fits.open(tmp_path / "planes.fits", "update") as hdus:
        hdus["CLASS_MAP"].data[3] = hdus["CLASS_MAP"].header["NODATA"]
    evaluation = evaluate(run, f"{tmp_path / 'planes.fits'}[CLASS_MAP]")
    assert evaluation.overall["accuracy"][0] == 1
    assert evaluation.table.meta["NOTRUTH"] == 41


@pytest.mark.parametrize("shift", [0.05, 0.3])
def test_another_pixel_grid_is_refused(run, shift):
    truth = fits.ImageHDU(LABELS.astype(np.int16), header(shift))
    if shift < 0.1:
        evaluate(run, truth)
        return
    match = r"pixel grid of the result, got one up to 0.3 pixels away; .*package reproject does"
    with pytest.raises(InputError, match=match):
        evaluate(run, truth)
    with pytest.raises(InputError, match=match):
        evaluate(run, LABELS, weights=fits.ImageHDU(np.ones(SHAPE), header(shift)))


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        (LABELS[:-1], {}, r"of the result, \(30, 41\), got \(29, 41\); resample .* reproject does"),
        (LABELS, {"mask": LABELS[:, 1:]}, r"got \(30, 40\); resample it to that grid"),
        (LABELS + 1, {}, "the label of a class, 0 to 2, or a lower number for none, got 3 in row"),
        (LABELS + 0.5, {}, "must be the label of a class, .* got .*5 in row 0"),
        (SCORES, {}, "truth must be 0 or 1 in each plane, got"),
        (SCORES[..., :2], {}, "one image of labels, or 3 planes, one per class, got 2"),
        ([LABELS, LABELS], {}, "one image of labels, or 3 planes, one per class, got 2"),
        (LABELS, {"weights": LABELS - 1}, "weights must be finite and >= 0, got -1"),
        (LABELS, {"weights": SCORES}, r"weights must be \(height, width\), got"),
        (LABELS, {"strata": "border"}, "strata must be a pair of values and increasing edges"),
        (LABELS, {"strata": ("border", [3, 2])}, "strata must be a pair of values"),
        (LABELS, {"strata": ("mag", [3, 4])}, "no such file"),
        (LABELS, {"class_names": ["a"]}, "class_names must be 3 strings"),
        (LABELS, {"aggregate_method": "mean_var"}, "aggregate_method must be one of"),
        (Table({"x": [1], "y": [2]}), {}, "a catalogue as the truth needs match_radius"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(truth, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(RESULTS, truth, **options)


def test_scores_that_are_no_probabilities():
    with pytest.raises(InputError, match="probabilities, from 0 to 1, are needed"):
        evaluate([3 * SCORES, N], LABELS)


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    """Results and truth are read some rows at a time."""
    monkeypatch.setattr(finished, "BLOCK_BYTES", 41 * 3 * 8 * 2)
    seen = []
    add = Counts.add

    def spy(self, pixels):
        seen.append(len(pixels.scores))
        add(self, pixels)

    monkeypatch.setattr(Counts, "add", spy)
    evaluate(RESULTS, LABELS)
    assert seen == [82] * 15


@pytest.mark.parametrize("end", [".ecsv", ".fits", ".csv"])
def test_tables_are_written(tmp_path, end):
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES)
    evaluation.write(tmp_path / f"metrics{end}")
    stored = Table.read(tmp_path / f"metrics{end}")
    assert_allclose(stored["iou"], evaluation.table["iou"])
    with pytest.raises(OutputError, match="exists already"):
        evaluation.write(tmp_path / f"metrics{end}")
    evaluation.write(tmp_path / f"metrics{end}", overwrite=True)
    with pytest.raises(InputError, match="path must end in one of"):
        evaluation.write(tmp_path / "metrics.txt")


def check_that_all_is_inside(figure):
    """Make sure that nothing written on a figure is cut off by its edges."""
    figure.savefig(io.BytesIO(), format="png")
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("truth", [LABELS, np.moveaxis(SCORES > 0.4, -1, 0)])
def test_nothing_of_a_figure_is_cut_off(truth):
    require("matplotlib")
    names = ["star", "irregular galaxy", "cosmic ray"]
    check_that_all_is_inside(evaluate(RESULTS, truth, class_names=names).plot())


def test_curves_of_good_classifiers_fill_their_panel():
    require("matplotlib")
    truth = np.zeros((100, 100), int)
    truth[:5, :20] = 1
    score = np.where(truth == 1, 0.8, 0.1)
    score[-1, :9], score[0, 0] = 0.9, 0.05
    figure = evaluate([np.stack([1 - score, score], -1), np.ones((100, 100))], truth).plot()
    axes = figure.axes[0]
    to_panel = axes.transData + axes.transAxes.inverted()
    shown = to_panel.transform(axes.lines[2].get_xydata())
    assert axes.get_xscale() == "log"
    assert ((shown[:, 0] > 0.2) & (shown[:, 0] < 0.8)).any()
    assert np.isfinite(shown).all()


def test_a_figure_of_no_mistakes():
    require("matplotlib")
    check_that_all_is_inside(evaluate([np.eye(3)[LABELS], N], LABELS, class_names=NAMES).plot())


def test_tables_print_shortly_and_store_all(tmp_path):
    evaluation = evaluate(RESULTS, LABELS, class_names=NAMES)
    assert max(map(len, evaluation.overall.pformat(max_width=-1))) < 80
    bins = evaluation.reliability("star")
    for table in (evaluation.table, evaluation.overall, bins, evaluation.roc("star")):
        words = " ".join(table.pformat(max_width=-1, max_lines=-1)[2:]).split()
        assert max(map(len, words)) <= 9
    assert [*map(repr, bins["high"].tolist())][:4] == ["0.1", "0.2", "0.3", "0.4"]
    evaluation.write(tmp_path / "metrics.csv")
    stored = Table.read(tmp_path / "metrics.csv")
    assert_array_equal(stored["brier"], evaluation.table["brier"])


@pytest.mark.parametrize("truth", [LABELS, np.moveaxis(SCORES > 0.4, -1, 0)])
def test_figures(truth):
    require("matplotlib")
    figure = evaluate(RESULTS, truth, class_names=NAMES).plot()
    titles = [axes.get_title() for axes in figure.axes]
    last = "Confusion" if truth is LABELS else "Intersection over union"
    assert titles == ["ROC", "Reliability", last]
    curve = figure.axes[0].lines[1].get_xydata()
    assert (curve[:, 1] >= curve[:, 0] - 0.05).all()


def test_the_command(run, tmp_path, monkeypatch, capsys):
    require("matplotlib")
    monkeypatch.chdir(tmp_path)
    fits.writeto("truth.fits", LABELS.astype(np.int16), header())
    call = "evaluate run truth.fits --strata border --edges 0 5 99 --mask mask.fits --out it.ecsv"
    fits.writeto("mask.fits", (LABELS == 2).astype(np.uint8))
    assert main([*call.split(), "--picture", "it.png"]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "5 to 99" in shown
    assert len(Table.read("it.ecsv")) == 9
    assert (tmp_path / "it.png").stat().st_size > 5000
