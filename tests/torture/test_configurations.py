"""Ten thousand random geometries, weights, masks and policies, beside the brute-force loop."""

from contextlib import ExitStack
from unittest import mock

import pytest
from conftest import ways_of_folding
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from test_predict_properties import cases, compare, predict_on_disk

from morpheus_core import predict
from morpheus_core.pipeline.ring import RowRing
from morpheus_core.pipeline.slabs import SlabReader

pytestmark = [
    pytest.mark.torture,
    pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning"),
]


def in_strips(model, images, **options):
    """Run in up to three strips, whose seams are added afterwards."""
    return predict_on_disk(model, images, strips=3, **options)


@pytest.mark.usefixtures("both_kernels")
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize(("run", "examples"), [(predict, 200), (in_strips, 50)])
def test_equals_brute_force(run, number, examples):
    @seed(number)
    @settings(max_examples=examples, database=None)
    @given(case=cases(), collects=st.booleans(), small=st.booleans())
    def check(case, collects, small):
        with ExitStack() as stack:
            if small:
                stack.enter_context(mock.patch.object(SlabReader, "_READ_BYTES", 1))
                stack.enter_context(mock.patch.object(RowRing, "_BLOCK_VALUES", 1))
            stack.enter_context(ways_of_folding(collects))
            compare(run, case)

    check()
