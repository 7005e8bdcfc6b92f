"""Run strips in jobs of a real Slurm of one node, whose jobs are ended and queued again.

``python .ci/slurm.py [job_array] [dask_with_walltime]``, as root, where ``apt-get install slurm-wlm
munge`` was done. It starts daemons of its own, in a folder that it removes, and ends them. Takes
about five minutes; in CI there is no Slurm.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from astropy.io import fits

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.run import write_inputs
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky

SCRIPT = Path(__file__).parents[1] / "docs" / "places" / "job_array.sh"
CPUS = 4
STRIPS = 4
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SLOW_NETWORK = '''
"""A network that takes {seconds} s for each batch."""
import time
from morpheus_core.demo.network import DemoNetwork

class DemoNetwork(DemoNetwork):
    def __call__(self, batch):
        time.sleep({seconds})
        return super().__call__(batch)
'''


def main() -> None:
    """Run all cases, and say what came of each."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, slurm(Path(name)):
        folder = Path(name)
        write_inputs(simulate_sky((400, 400), seed=3), folder)
        expected = serial_run(folder)
        cases = (job_array, dask_with_walltime)
        for case in [case for case in cases if case.__name__ in (sys.argv[1:] or case.__name__)]:
            place = folder / case.__name__
            place.mkdir()
            start = time.monotonic()
            ended = case(folder, place)
            found = data_of(place / "results")
            same = "the bytes of one process" if found == expected else "OTHER BYTES"
            print(f"{case.__name__}: {ended}, {same}, {time.monotonic() - start:.0f} s", flush=True)
            if found != expected:
                sys.exit(1)


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Start a cluster of this machine, and end it."""
    host = os.uname().nodename.partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, cpus=CPUS))
    os.environ["SLURM_CONF"] = str(configuration)
    munge = [f"--{kind}={folder}/munge.{kind}" for kind in ("socket",)]
    munge += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
    with ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-N", host],
        ):
            log = daemons.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            daemons.callback(process.wait)
            daemons.callback(process.terminate)
            time.sleep(2)
        wait_for(lambda: "idle" in said("sinfo", "--noheader", "--format=%t"), 30)
        yield
        said("scancel", f"--user={os.getuid()}")
        wait_for(lambda: not jobs(), 60)


def serial_run(folder: Path) -> dict[str, bytes]:
    """Return what one process makes of the field, cut into the same strips."""
    hduls, _ = predict(DemoNetwork(), **options(folder), out_dir=folder / "serial", progress=False)
    for hdul in hduls:
        hdul.close()
    return data_of(folder / "serial")


def options(folder: Path) -> dict[str, object]:
    """Return the arguments that job_array.sh has, too."""
    return {
        "model_inputs": [folder / f"{band}.fits" for band in BANDS],
        "n_classes": len(CLASS_NAMES),
        "batch_size": 16,
        "window_shape": WINDOW_SHAPE,
        "stride": (20, 20),
        "aggregate_method": "mean_var",
        "strips": STRIPS,
    }


def job_array(folder: Path, place: Path) -> str:
    """Run the script of the documentation; each strip needs more turns than one."""
    (place / "slow_network.py").write_text(SLOW_NETWORK.format(seconds=1.5))
    variables = {
        "STRIPS": str(STRIPS),
        "MODEL": "slow_network:DemoNetwork",
        "SECONDS_PER_TURN": "20",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    inputs = [str(folder / f"{band}.fits") for band in BANDS]
    command = ["bash", str(SCRIPT), *inputs]
    subprocess.run(command, cwd=place, env={**os.environ, **variables}, check=True)
    wait_for(lambda: not jobs(), 400)
    restarts = [int(n) for n in values("Restarts") if n != "0"]
    if not restarts:
        raise RuntimeError(f"no job was queued again: {said('scontrol', 'show', 'jobs')}")
    return f"{len(restarts)} jobs queued again, {sum(restarts)} times"


def dask_with_walltime(folder: Path, place: Path) -> str:
    """Run strips in workers whose jobs last a minute."""
    import dask
    from dask.distributed import Client
    from dask_jobqueue import SLURMCluster

    (place / "slow_network.py").write_text(SLOW_NETWORK.format(seconds=5))
    sys.path.insert(0, str(place))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 20}),
        SLURMCluster(
            cores=1,
            processes=1,
            memory="1GB",
            walltime="00:01:00",
            scheduler_options={"host": "127.0.0.1"},
            log_directory=str(place),
            job_script_prologue=[f"export PYTHONPATH={place}"],
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(maximum_jobs=2)
        hduls, _ = predict(
            "slow_network:DemoNetwork",
            **options(folder),
            out_dir=place / "results",
            executor=client,
            progress=False,
        )
        for hdul in hduls:
            hdul.close()
    ended = values("JobState").count("TIMEOUT")
    if not ended:
        raise RuntimeError(f"no job reached its limit: {said('scontrol', 'show', 'jobs')}")
    return f"{ended} jobs reached their time limit"


def data_of(directory: Path) -> dict[str, bytes]:
    """Return the data of all outputs."""
    return {path.name: fits.getdata(path).tobytes() for path in sorted(directory.glob("*.fits"))}


def jobs() -> list[str]:
    """Return the jobs that wait or run."""
    return said("squeue", "--noheader").splitlines()


def values(name: str) -> list[str]:
    """Return what Slurm says of all jobs that it remembers."""
    words = said("scontrol", "show", "jobs").split()
    return [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]


def said(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {seconds:.0f} s: {said('squeue')}")
        time.sleep(1)


if __name__ == "__main__":
    main()
