"""Strips on several machines, whose file system keeps pages and names of its own on each."""

import shutil
import tempfile
import threading
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from machines import Machines

from morpheus_core.images.stack import open_inputs
from morpheus_core.pipeline.job import Job
from morpheus_core.results.fits_outputs import allocate_files
from morpheus_core.results.outputs import part_path
from morpheus_core.results.products import Origin, products_of
from morpheus_core.windows.grid import WindowGrid
from morpheus_core.workspace.completion import Completion
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.strip import StoredStrip

IMAGE = np.random.default_rng(3).random((60, 25)).astype(np.float32)
MACHINES = ("m1", "m2")
N_STRIPS = 3
#: An example is small already.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def job_of(stride):
    grid = WindowGrid(IMAGE.shape, (8, 8), (stride, 8), "cover", None, 1)
    return Job(
        grid,
        2,
        8,
        np.ones((8, 8)),
        ("mean_var",),
        "propagate",
        0.0,
        "float32",
        False,
        False,
        ("a", "b"),
    )


def model(batch):
    (windows,) = batch
    return np.concatenate([windows, 1 - windows], axis=-1)


class Turns:
    """Lets threads go on one at a time, from batch to batch, as a test wants it."""

    def __init__(self):
        self.waiting, self.stopped = {}, threading.Semaphore(0)

    def pause(self):
        """Wait for the next turn of this thread."""
        self.stopped.release()
        self.waiting[threading.current_thread()].acquire()

    def run(self, works, choose):
        """Run functions side by side; `choose` takes the next one by its place."""
        threads = [threading.Thread(target=self._do, args=(work,)) for work in works]
        self.waiting = {thread: threading.Semaphore(0) for thread in threads}
        for thread in threads:
            thread.start()
            self.stopped.acquire()
        while self.waiting:
            thread = list(self.waiting)[choose(len(self.waiting))]
            self.waiting[thread].release()
            self.stopped.acquire()
            if not thread.is_alive() or thread not in self.waiting:
                thread.join()

    def _do(self, work):
        self.pause()
        try:
            work()
        finally:
            del self.waiting[threading.current_thread()]
            self.stopped.release()


def run(folder, job, apart, chance=None, choose=lambda count: 0):
    """Run strips on machines that take turns, complete the outputs, and return sums of these."""
    with open_inputs(IMAGE, "last", None, None) as stack:
        products = products_of(job, Origin())
        strips = job.grid.strips(job.batch_size, N_STRIPS, np.ones(len(job.grid.tops)))
        plan = Plan.make(job, stack, strips, None, apart, "fits")
        workspace = Workspace(folder)
        workspace.create(plan, job.update_map, overwrite=False)
        if not apart:
            allocate_files(products, folder, plan.run)
        machines, turns = Machines(folder, MACHINES[0], chance or (lambda: True)), Turns()

        def paused(batch):
            turns.pause()
            return model(batch)

        def work(index):
            def run_strip():
                machines.be(MACHINES[index % len(MACHINES)])
                strip = StoredStrip(workspace, plan, index, job, stack)
                strip.run(paused, lambda windows: None, 0)

            return run_strip

        # One thread copies or reads, so that whatever is drawn has one meaning.
        with (
            machines.running(),
            patch("morpheus_core.storage.file_systems.is_shared", lambda folder: True),
            patch("morpheus_core.workspace.completion.is_shared", lambda folder: True),
            patch("morpheus_core.workspace.completion.COPIES", 1),
            patch("morpheus_core.results.verification.READERS", 1),
            patch("morpheus_core.storage.names.PAUSES", (0, 0)),
        ):
            turns.run([work(index) for index in range(len(strips))], choose)
            assert Completion(workspace, plan, job, products).run() == []
    return [
        sha256(part_path(product, folder).read_bytes()[-product.unit.padded_bytes :]).hexdigest()
        for product in products
    ]


@pytest.fixture(scope="module", params=[4, 8], ids=["overlapping", "touching"])
def job(request):
    return job_of(request.param)


@pytest.fixture(scope="module")
def expected(job, tmp_path_factory):
    return run(tmp_path_factory.mktemp("one_machine"), job, apart=False)


def run_once(job, apart, chances, turns):
    """Run it as drawn: both lists begin anew when they are used up."""
    happens, next_turn = cycle(chances), cycle(turns)
    folder = Path(tempfile.mkdtemp(prefix="machines-"))
    try:
        return run(
            folder,
            job,
            apart,
            chance=lambda: next(happens),
            choose=lambda count: next(next_turn) % count,
        )
    finally:
        shutil.rmtree(folder)


drawn = given(
    chances=st.lists(st.booleans(), min_size=1, max_size=100),
    turns=st.lists(st.integers(0, 5), min_size=1, max_size=30),
)


@settings(max_examples=25, phases=PHASES)
@drawn
def test_whatever_machines_remember_the_bytes_are_right(job, expected, chances, turns):
    assert run_once(job, True, chances, turns) == expected


@pytest.mark.slow
@settings(max_examples=250, phases=PHASES)
@drawn
def test_hundreds_of_times(job, expected, chances, turns):
    assert run_once(job, True, chances, turns) == expected


def test_rows_that_machines_write_to_one_file_are_lost(job, expected):
    """The model has the fault for which strips have files of their own."""

    outcomes = []

    @settings(max_examples=25, phases=[Phase.generate])
    @drawn
    def search(chances, turns):
        outcomes.append(run_once(job, False, chances, turns) == expected)

    search()
    assert not all(outcomes)
