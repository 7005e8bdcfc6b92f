"""Run `predict` on two machines that share a folder, and compare bytes with those of a serial run.

``shared_folder.py drive SOURCE CASE=RUNS...`` is called by ``nfs.sh`` and ``glusterfs.sh``, which
say what the machines are: the bash function ``on MACHINE COMMAND...`` runs a command on one, and
``stop_server`` and ``start_server`` take the file system away and bring it back. SOURCE is the
folder with the package `morpheus_core`, so that an older one can be seen to fail.

A Dask worker is on m1 and one on m2, and so is a process on each that submits runs by turns: it
shares its machine with a worker. A case is seldom wrong in every run, so few right runs prove
little.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
#: Of the scheduler, where FILE_SYSTEM is that of several networks.
PORT = 18786
#: A folder of the server that is not shared, for what is computed serially.
ALONE = Path("/dev/shm")
MACHINES = ("m1", "m2")
FILES = ("output.fits", "n.fits")
STRIPS = 6
WORDS = {True: "right", False: "WRONG"}


@dataclass(frozen=True)
class Case:
    """What is predicted, and what happens meanwhile.

    Attributes
    ----------
    shape, stride, batch_size
        Of the image and its windows of 40 × 40 pixels.
    seconds : float
        Of a batch, on average.
    overwrite : bool
        Whether all runs go to one folder.
    killed : bool
        Whether the submitting process and a worker are killed, and the other process resumes.
    away : float
        Seconds for which the server is stopped in each run.
    """

    shape: tuple[int, int] = (600, 300)
    stride: tuple[int, int] = (20, 20)
    batch_size: int = 32
    seconds: float = 0.05
    overwrite: bool = False
    killed: bool = False
    away: float = 0

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `predict`."""
        return {
            "n_classes": 2,
            "batch_size": self.batch_size,
            "window_shape": (40, 40),
            "stride": self.stride,
            "aggregate_method": "mean_var",
            "strips": STRIPS,
            "progress": False,
        }


CASES = {
    "overlapping": Case(),
    "touching": Case(stride=(40, 40)),
    "wide": Case(shape=(600, 1300)),
    "same_folder": Case(overwrite=True),
    "killed": Case(batch_size=8, seconds=0.15, killed=True),
    "away_5": Case(seconds=0.2, away=5),
    "away_90": Case(seconds=0.2, away=90),
}


class Model:
    """Two classes; each batch takes a while of its own, so that machines meet in many ways."""

    def __init__(self, seconds: float, notes: str, often: bool) -> None:
        self.seconds, self.notes, self.often = seconds, notes, often

    def __call__(self, batch: list[Any]) -> Any:
        """Predict, and note where."""
        import numpy as np

        if self.often:  # a strip lasts a second here, and is to be resumed in the middle
            from morpheus_core.workspace import journal

            journal.SYNC_INTERVAL = 0.2
        if self.notes:
            with Path(self.notes).open("a") as notes:
                notes.write(f"{os.uname().nodename}\n")
        time.sleep(random.expovariate(1 / self.seconds) if self.seconds else 0)
        source = 1 / (1 + np.exp(-batch[0]))
        return np.concatenate([source, 1 - source], axis=-1)


def run(case: Case, model: Model, image: str, out: str, **options: Any) -> list[str]:
    """Predict, and return digests of the arrays that it returns."""
    from morpheus_core import predict

    hduls, arrays = predict(model, image, out_dir=out, **case.options, **options)
    digests = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    for hdul in hduls:
        hdul.close()
    return digests


def prepare(name: str) -> None:
    """Make the image of a case, and print what one process makes of it."""
    import numpy as np
    from astropy.io import fits

    case = CASES[name]
    image = Path(os.environ["SERVER_EXPORT"], f"{name}.fits")
    fits.writeto(image, np.random.default_rng(1).normal(size=case.shape).astype(np.float32))
    alone = ALONE / f"reference-{name}-{os.getpid()}"
    digests = run(case, Model(0, "", False), str(image), str(alone))
    print(json.dumps([digests, [digest_of_data(alone / file) for file in FILES]]))


def submit(address: str) -> None:
    """Run what is asked for, line by line, on a cluster."""
    import shared_folder  # not __main__, so that workers can import it
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(len(MACHINES), timeout=240)
        print(json.dumps(list(client.run(whoami).values())), flush=True)
        for line in sys.stdin:
            name, out, options = json.loads(line)
            case, image = CASES[name], f"{os.environ['EXPORT']}/{name}.fits"
            model = shared_folder.Model(case.seconds, os.environ["NOTES"], case.killed)
            try:
                answer: Any = run(case, model, image, out, executor=client, **options)
            except Exception as error:
                traceback.print_exc()
                answer = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), flush=True)


def whoami() -> tuple[str, int]:
    """Return the machine and the number of this process."""
    return os.uname().nodename, os.getpid()


def digest_of_data(path: Path) -> str:
    """Return a digest of what follows the header of a file of one HDU."""
    content, end = path.read_bytes(), 0
    while not any(content[end + k : end + k + 8] == b"END     " for k in range(0, 2880, 80)):
        end += 2880
        if end >= len(content):
            return "no header"
    return hashlib.sha256(content[end + 2880 :]).hexdigest()


def on(machine: str, *command: str, log: str) -> subprocess.Popen[str]:
    """Start a command on a machine, with pipes."""
    with Path(os.environ["OUT"], log).open("a") as errors:
        return subprocess.Popen(
            ["bash", "-c", 'on "$@"', "on", machine, *command],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )


def call(function: str) -> None:
    """Call a function of the shell."""
    subprocess.run(["bash", "-c", function], check=True)


class Submitter:
    """A process on a machine that submits runs."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        command = (sys.executable, str(HERE), "submit", cluster_address())
        self.process = on(machine, *command, log=f"submit-{machine}.log")
        self.workers: dict[str, int] = {}
        self.pid = 0

    def ready(self) -> None:
        """Wait until it sees all workers."""
        if not self.workers:
            self.workers = dict(self.answer())

    def ask(self, name: str, out: str, **options: Any) -> None:
        """Let it run a case."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, out, options]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return what it says: digests, or an error."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else "the submitting process has ended"


def cluster_address() -> str:
    """Return where the scheduler is."""
    return f"tcp://{os.environ['ADDRESS']}:{PORT}"


@dataclass
class Driver:
    """Runs cases, and has what they run in.

    Attributes
    ----------
    notes : Path
        Where models say that they were called; not in the shared folder.
    """

    notes: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    submitters: dict[str, Submitter] = field(default_factory=dict)

    def start(self) -> None:
        """Start scheduler, workers and submitting processes."""
        options = ("--host", os.environ["ADDRESS"], "--port", str(PORT), "--no-dashboard")
        command = (sys.executable, "-m", "distributed.cli.dask_scheduler", *options)
        self.processes.append(on("m1", *command, log="scheduler.log"))
        for machine in MACHINES:
            self.start_worker(machine)
            self.submitters[machine] = Submitter(machine)
        for submitter in self.submitters.values():
            submitter.ready()

    def start_worker(self, machine: str) -> None:
        """Start a worker of one thread."""
        command = (sys.executable, "-m", "distributed.cli.dask_worker", cluster_address())
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory")
        process = on(machine, *command, *options, str(ALONE), log=f"worker-{machine}.log")
        self.processes.append(process)

    def stop(self) -> None:
        """End what was started; the machines are there for it alone."""
        started = [*self.processes, *(s.process for s in self.submitters.values())]
        for process in started:
            subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
            process.kill()
            process.wait()

    def case(self, name: str, runs: int) -> bool:
        """Run a case so often, print what came of it, and say whether all was right."""
        case = CASES[name]
        prepared = on("server", sys.executable, str(HERE), "prepare", name, log="prepare.log")
        digests, data = json.loads(prepared.communicate()[0])
        counts: Counter[str] = Counter()
        for number in range(runs):
            machine = MACHINES[number % len(MACHINES)]
            out = name if case.overwrite else f"{name}-{number}"
            self.notes.write_text("")
            start = time.monotonic()
            answer, again = self.run(name, machine, f"{os.environ['EXPORT']}/{out}")
            said = "ERROR " + answer.replace("\n", " ") if isinstance(answer, str) else ""
            if not said:
                folder = Path(os.environ["SERVER_EXPORT"], out)
                found = [digest_of_data(folder / file) for file in FILES]
                said = f"files {WORDS[found == data]}, arrays {WORDS[answer == digests]}"
            counts += Counter(wrong="WRONG" in said, errors="ERROR" in said, resumed=again)
            batches = "+".join(str(self.batches(host)) for host in MACHINES)
            spent = f"{time.monotonic() - start:6.1f} s {batches:>7}"
            print(f"  {number:2} {spent} {'resumed, ' * again}{said}", flush=True)
        print(
            f"{os.environ['FILE_SYSTEM']} {name}: {counts['wrong']} of {runs} runs wrong, "
            f"{counts['errors']} errors, {counts['resumed']} resumed",
            flush=True,
        )
        return not counts["wrong"] + counts["errors"]

    def run(self, name: str, machine: str, out: str) -> tuple[Any, bool]:
        """Return what came of a run, and whether it had to be resumed."""
        case, submitter = CASES[name], self.submitters[machine]
        submitter.ask(name, out, **({"overwrite": True} if case.overwrite else {}))
        if case.killed:
            return self.kill(name, out, submitter), True
        if case.away:
            self.wait_for_batches(3)
            call("stop_server")
            time.sleep(case.away)
            call("start_server")
        answer = submitter.answer()
        if case.away and isinstance(answer, str):
            print(f"     {answer}")
            submitter.ask(name, out, resume=True)
            return submitter.answer(), True
        return answer, False

    def kill(self, name: str, out: str, submitter: Submitter) -> Any:
        """Kill a worker and the submitting process, and let the other one go on at once."""
        (other,) = (s for s in self.submitters.values() if s is not submitter)
        self.wait_for_batches(random.randint(5, 40))
        lost = random.choice(MACHINES)
        os.kill(submitter.workers[lost], signal.SIGKILL)
        subprocess.run(["pkill", "-KILL", "-P", str(submitter.process.pid)], check=False)
        submitter.process.wait()
        other.ask(name, out, resume=True)
        self.start_worker(lost)
        answer = other.answer()
        # The one that is left knows of the lost worker, so both are new for the next run.
        self.submitters[submitter.machine] = Submitter(submitter.machine)
        self.submitters[submitter.machine].ready()
        other.workers = self.submitters[submitter.machine].workers
        return answer

    def batches(self, machine: str) -> int:
        """Return how many batches a machine has begun."""
        return self.notes.read_text().split().count(machine)

    def wait_for_batches(self, count: int) -> None:
        """Wait until so many batches were begun."""
        while sum(map(self.batches, MACHINES)) < count:
            time.sleep(0.01)


def drive(source: str, *cases: str) -> bool:
    """Run cases, each so often, and say whether all was right."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = f"{HERE.parent}:{source}"
    driver = Driver(Path(os.environ["NOTES"]))
    try:
        driver.start()
        outcomes = [driver.case(*case_and_runs(case)) for case in cases]
        return all(outcomes)
    finally:
        driver.stop()


def case_and_runs(text: str) -> tuple[str, int]:
    """Read CASE=RUNS."""
    name, _, runs = text.partition("=")
    return name, int(runs)


def main() -> None:
    """Do what a process of ours is asked for."""
    role, *arguments = sys.argv[1:]
    roles = {"drive": drive, "prepare": prepare, "submit": submit}
    sys.exit(roles[role](*arguments) is False)


if __name__ == "__main__":
    main()
