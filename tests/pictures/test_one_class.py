"""Pictures of one class, in which what is rare is seen, and of the objects of it."""

import io

import numpy as np
import pytest
from astropy.table import Table
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from morpheus_core import InputError, find_candidates, predict, quicklook
from morpheus_core.pictures.sampling import Sampling

NAMES = ["lens", "sky"]


@pytest.fixture
def results():
    """A run with one pixel of a lens in 300 × 420."""
    require("matplotlib")
    image = np.zeros((300, 420), np.float32)
    image[201, 333] = 1

    def model(batch):
        return np.concatenate([batch[0], 1 - batch[0]], axis=-1)

    return predict(
        model, image, 2, 512, (10, 10), stride=(10, 10), aggregate_method="mean_var",
        class_names=NAMES, progress=False,
    )  # fmt: skip


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def drawn(axes):
    return axes.get_images()[0].get_array()


@pytest.mark.parametrize("max_pixels", [1000, 100, 7])
def test_a_rare_class_is_seen_at_any_size(results, max_pixels):
    figure = quicklook(results, class_names=NAMES, max_pixels=max_pixels, class_name="lens")
    heat = drawn(panels(figure)["lens"])
    step = -(-420 // max_pixels)
    assert heat.max() == 1
    assert (heat > 0).sum() == 1
    assert heat[min(201 // step, len(heat) - 1), 333 // step] == 1
    assert "Most probable class" not in panels(figure)
    subtitles = [text.get_text() for text in panels(figure)["lens"].texts]
    assert subtitles == ["mean" + (f", highest of {step} × {step}" if step > 1 else "")]


@pytest.mark.parametrize("class_name", [None, "lens"])
def test_objects_are_marked(results, class_name):
    require("scipy")
    from matplotlib.colors import to_hex

    table = find_candidates(results, "class_0", 0.5)
    figure = quicklook(results, class_names=NAMES, class_name=class_name, candidates=table)
    first = figure.axes[0]
    (circles,) = first.collections
    assert_array_equal(circles.get_offsets(), [[333, 201]])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    circle = legend.legend_handles[names.index("objects")]
    assert (circle.get_marker(), circle.get_fillstyle()) == ("o", "none")
    assert to_hex(circle.get_color()) == to_hex(circles.get_edgecolors()[0])


def test_nothing_is_marked_without_objects(results):
    figure = quicklook(results, class_names=NAMES)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES


def test_rows_of_more_predictions_are_explained(tmp_path):
    require("matplotlib")
    hduls, _ = predict(
        lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1), np.zeros((45, 40)),
        2, 64, (10, 10), stride=(10, 10), out_dir=tmp_path / "out", progress=False,
    )  # fmt: skip
    for hdul in hduls:
        hdul.close()
    figure = quicklook(tmp_path / "out")
    assert all(handle.get_visible() for handle in figure.legends[0].legend_handles)
    (note,) = figure.texts
    words = " ".join(note.get_text().split())
    assert words.endswith("More predictions where the last window is flush with the border.")
    figure.savefig(io.BytesIO(), format="png")
    box, legend = note.get_window_extent(), figure.legends[0].get_window_extent()
    assert box.x0 >= 0 <= box.y0
    assert box.y1 <= legend.y0 + 5
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("most", "class_name", "told"),
    [
        (1000, None, ""),
        (100, None, "One pixel of each 5 × 5 is drawn."),
        (100, "lens", "One pixel of each 5 × 5 is drawn, but for lens."),
    ],
)
def test_a_sample_is_called_one(results, most, class_name, told):
    figure = quicklook(results, class_names=NAMES, max_pixels=most, class_name=class_name)
    assert [text.get_text() for text in figure.texts] == [told]


def test_many_objects_have_small_circles(results):
    sizes = []
    for count in (10, 100, 800):
        table = Table({"x": np.arange(count) % 400, "y": np.arange(count) % 300})
        (circles,) = quicklook(results, candidates=table).axes[0].collections
        sizes.append(circles.get_sizes()[0])
    assert sizes == [60, 60, 7.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": "galaxy"}, "class_name must be one of 'lens', 'sky', got 'galaxy'"),
        ({"candidates": [1]}, "candidates must be a table of find_candidates, got list"),
    ],
)
def test_what_cannot_be_drawn(results, options, message):
    with pytest.raises(InputError, match=message):
        quicklook(results, class_names=NAMES, **options)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.randoms())
def test_the_highest_of_each_sample(height, width, most, random):
    pixels = np.array([[random.random() for _ in range(width)] for _ in range(height)])
    sampling = Sampling.of((height, width), most)
    found = sampling.read_highest(lambda start, stop: pixels[start:stop])
    assert found.shape == (len(sampling.rows), len(sampling.columns))
    assert found.max() == pixels.max()
    for row, column in zip(range(len(found)), range(found.shape[1]), strict=False):
        last = row == len(found) - 1, column == found.shape[1] - 1
        ends = [
            length if is_last else (k + 1) * sampling.step
            for length, k, is_last in zip(pixels.shape, (row, column), last, strict=True)
        ]
        own = pixels[row * sampling.step : ends[0], column * sampling.step : ends[1]]
        assert found[row, column] == own.max()
