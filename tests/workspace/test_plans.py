"""What is stored of a run, and how one that is asked for differs from one that was begun."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.results.outputs import Product
from morpheus_core.version import RUN_FORMAT, __version__
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan, changed_input
from morpheus_core.workspace.work import StripWork

FILE = {"path": "b.fits", "hdu": 1, "bands": "last", "size": 5}
PLAN = Plan(
    run="a",
    version=__version__,
    format=RUN_FORMAT,
    parameters={"stride": [2, 3], "batch_size": 9},
    inputs={"images": [FILE, FILE], "mask": None},
    strips=[Strip(0, 9), Strip(9, 18)],
    factory="package:load",
    apart=False,
    sink="fits",
)


def inputs(*images, mask=None):
    return {"images": list(images), "mask": mask}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"run": "b", "strips": [Strip(0, 18)]}, None),
        ({"factory": None}, "model was package:load, is an object"),
        ({"factory": "a"}, "model was package:load, is a"),
        ({"factory": "z"}, "model was package:load, is z"),
        ({"sink": "fits.gz"}, "sink was fits, is fits.gz"),
        ({"sink": "asdf"}, "sink was fits, is asdf"),
        ({"parameters": {"stride": [2, 3], "batch_size": 8}}, "batch_size was 9, is 8"),
        ({"parameters": {"stride": [2, 3], "batch_size": 10}}, "batch_size was 9, is 10"),
        ({"inputs": inputs(FILE)}, "it has 2 inputs, not 1"),
        ({"inputs": inputs(FILE, FILE, FILE)}, "it has 2 inputs, not 3"),
        (
            {"inputs": inputs(FILE, {**FILE, "path": "c.fits"})},
            "model_inputs[1] was b.fits, is c.fits",
        ),
        ({"inputs": inputs(FILE, FILE, mask={"sha256": "1"})}, "its mask is another one"),
    ],
)
def test_the_first_difference_is_named(changes, difference):
    assert PLAN.difference(replace(PLAN, **changes)) == difference


@pytest.mark.parametrize("version", ["0", "99"])
def test_runs_of_other_versions(version):
    other = replace(PLAN, version=version)
    text = f"it was begun by version {version}, this is {__version__}"
    assert other.other_version() == text
    assert other.difference(PLAN) == text
    assert PLAN.other_version() is None


@pytest.mark.parametrize("step", [-1, 1])
def test_runs_of_other_builds(step):
    other = replace(PLAN, format=RUN_FORMAT + step)
    assert other.difference(PLAN) == f"it was begun by another build of version {__version__}"


@pytest.mark.parametrize(
    ("stored", "given", "change"),
    [
        ({"path": "a"}, {"path": "b"}, "was a, is b"),
        ({"path": "b"}, {"path": "a"}, "was b, is a"),
        ({"sha256": "1"}, {"path": "a"}, "was an array, is a"),
        ({"path": "a"}, {"sha256": "1"}, "was a, is an array"),
        ({"sha256": "1"}, {"sha256": "2"}, "has other pixels"),
        (FILE, {**FILE, "hdu": 0}, "was another image of b.fits, or was read with other bands"),
        (FILE, {**FILE, "hdu": 2}, "was another image of b.fits, or was read with other bands"),
        (
            FILE,
            {**FILE, "bands": "first"},
            "was another image of b.fits, or was read with other bands",
        ),
        (FILE, {**FILE, "size": 6}, "is b.fits, which was written to after the run had begun"),
    ],
)
def test_how_an_input_has_changed(stored, given, change):
    assert changed_input(stored, given) == change


def test_a_plan_is_read_as_it_was_stored():
    assert Plan.from_json(PLAN.to_json()) == PLAN


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path)
    for index, names in enumerate([("log", "journal.b-1", "ready"), ("log", "a"), ()]):
        workspace.folder(index).mkdir()
        for name in names:
            (workspace.folder(index) / name).touch()
    workspace.create(PLAN, np.ones((2, 2)), overwrite=False)
    return workspace


def test_what_a_run_left_that_has_ended_is_removed_but_for_its_logs(workspace):
    left = [{path.name for path in workspace.folder(index).iterdir()} for index in range(2)]
    assert left == [
        {"log", "journal", "job.json", "run.json", "update_map.npy"},
        {"log", "a", "journal", "job.json"},
    ]


def test_strips_are_called_by_their_window_rows(workspace):
    work = StripWork(directory=str(workspace.directory), prefetch=0)
    assert [work.name(index) for index in range(2)] == ["window rows 0 to 8", "window rows 9 to 17"]


def test_outputs_are_made_by_others_as_they_were_stored(workspace):
    cards = fits.Header({"OBJECT": "M 31"})
    units = [
        ImageUnit((60, 30), np.dtype(np.int16), cards, summed=True),
        ImageUnit((60, 30, 2), np.dtype(np.float32), cards, extension=True, summed=True),
    ]
    products = [Product("n", units[0]), Product("mean", units[1], "output", "mean_var")]
    assert not workspace.has_products()
    workspace.store_products(products)
    assert workspace.has_products()
    for stored, product in zip(workspace.products(), products, strict=True):
        assert stored.unit.header("a").tostring() == product.unit.header("a").tostring()
        assert replace(stored, unit=product.unit) == product


def test_spread_is_added_up_over_strips_that_say_so(workspace):
    assert workspace.spread(PLAN) == (0, 0)
    workspace.note_spread(1, 2, 30)
    assert workspace.spread(PLAN) == (2, 30)
    workspace.note_spread(0, 5, 100)
    workspace.note_spread(2, 1000, 1000)  # of a strip that the plan does not have
    assert workspace.spread(PLAN) == (7, 130)
