import os

import pytest
from conftest import require

from morpheus_core import InputError
from morpheus_core.parallel import devices
from morpheus_core.parallel.devices import (
    THREAD_VARIABLES,
    container_cores,
    own_devices,
    plan_workers,
    thread_limits,
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in (*THREAD_VARIABLES, *devices.SCHEDULER_VARIABLES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(devices, "container_cores", lambda _: [])
    monkeypatch.setattr(devices, "installed_gpus", lambda: 2)


def seen_by(gpus):
    return [slot["CUDA_VISIBLE_DEVICES"] for slot in plan_workers(None, gpus)]


def test_no_workers_unless_asked_for():
    assert plan_workers(None, None) == []


@pytest.mark.parametrize(("cpus", "share"), [(1, 16), (4, 4), (5, 3), (16, 1), (40, 1)])
def test_workers_share_the_cores(cpus, share):
    slots = plan_workers(cpus, None)
    assert len(slots) == cpus
    for slot in slots:
        assert {slot[name] for name in THREAD_VARIABLES} == {str(share)}


def test_workers_on_the_processor_see_no_gpu():
    assert {slot["CUDA_VISIBLE_DEVICES"] for slot in plan_workers(3, None)} == {""}


@pytest.mark.parametrize("name", devices.SCHEDULER_VARIABLES)
def test_a_scheduler_may_grant_fewer_cores_than_there_are(monkeypatch, name):
    monkeypatch.setenv(name, "6")
    assert devices.available_cores() == 6


@pytest.mark.parametrize(
    ("content", "cores"),
    [("250000 100000\n", [3]), ("50000 100000\n", [1]), ("max 100000\n", []), (None, [])],
)
def test_a_container_may_have_a_time_quota(tmp_path, content, cores):
    quota = tmp_path / "cpu.max"
    if content is not None:
        quota.write_text(content)
    assert container_cores(quota) == cores


def test_what_only_looks_like_a_number_is_none(monkeypatch):
    monkeypatch.setenv("NCPUS", "²")
    monkeypatch.setenv("OMP_NUM_THREADS", "²")
    assert thread_limits(4)["OMP_NUM_THREADS"] == "4"


def test_a_smaller_limit_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "64")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "many")
    limits = thread_limits(4)
    assert limits["OMP_NUM_THREADS"] == "2"
    assert limits["MKL_NUM_THREADS"] == "4"
    assert limits["OPENBLAS_NUM_THREADS"] == "4"


def test_joblib_keeps_to_the_share(monkeypatch):
    joblib = require("joblib")
    for name, limit in thread_limits(16).items():
        monkeypatch.setenv(name, limit)
    assert joblib.cpu_count() == 1


def test_each_gpu_worker_sees_one_device():
    assert seen_by([0, 1]) == ["0", "1"]
    assert seen_by([1, 1]) == ["1", "1"]
    assert seen_by(["1"]) == ["1"]
    assert seen_by(["GPU-8f2a"]) == ["GPU-8f2a"]


def test_indices_count_what_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f2a,5")
    assert seen_by([0, 1, 2]) == ["3", "GPU-8f2a", "5"]
    assert seen_by(["GPU-8f2a"]) == ["GPU-8f2a"]
    with pytest.raises(InputError, match="no GPU 3 among CUDA_VISIBLE_DEVICES=3, GPU-8f2a,5"):
        seen_by([3])
    assert seen_by(["GPU-ffff"]) == ["GPU-ffff"]  # it may be the one with an index


def test_uuids_must_be_among_those_that_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f2a")
    assert seen_by(["GPU-8f2a"]) == ["GPU-8f2a"]
    with pytest.raises(InputError, match="no GPU GPU-ffff among"):
        seen_by(["GPU-ffff"])


def test_a_process_that_sees_no_gpu_has_none_to_give(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="no GPU 0"):
        seen_by([0])


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("0, ", ["0"]),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
        ("2 ,GPU-1", ["2", "GPU-1"]),
        ("0,²", ["0"]),
    ],
)
def test_what_cuda_makes_of_a_list(visible, devices):
    assert own_devices(visible) == devices


def test_a_device_that_the_driver_does_not_list():
    with pytest.raises(InputError, match="no GPU 2: this machine has 2"):
        seen_by([2])


def test_where_no_driver_lists_devices_the_worker_will_tell(monkeypatch):
    monkeypatch.setattr(devices, "installed_gpus", lambda: None)
    assert seen_by([7]) == ["7"]


@pytest.mark.parametrize("gpu", [0, "GPU-8f2a"])
def test_a_machine_without_gpus(monkeypatch, gpu):
    monkeypatch.setattr(devices, "installed_gpus", lambda: 0)
    with pytest.raises(InputError, match=f"no GPU {gpu}: this machine has 0"):
        seen_by([gpu])
