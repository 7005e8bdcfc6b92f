"""Classify every pixel of a field in jobs of SLURM.

``python slurm.py [--jobs 8] [H.fits J.fits V.fits Z.fits]``, on a machine that can submit jobs and
in a folder that all machines share. Without images a field is simulated; ``--local`` runs two
processes here instead of jobs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dask.distributed import Client, LocalCluster
from dask_jobqueue import SLURMCluster

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.run import write_inputs
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky

WORKERS_PER_JOB = 8


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--out-dir", type=Path, default="results")
    options = parser.parse_args()
    with open_cluster(options.local, options.jobs) as cluster, Client(cluster) as client:
        print(f"dashboard: {client.dashboard_link}")
        hduls, (output, _) = predict(
            DemoNetwork(),
            options.images or simulate(Path("field")),
            n_classes=len(CLASS_NAMES),
            batch_size=16,
            window_shape=WINDOW_SHAPE,
            stride=(20, 20),
            aggregate_method="mean_var",
            class_names=CLASS_NAMES,
            out_dir=options.out_dir,
            executor=client,
            strips=4 * WORKERS_PER_JOB * options.jobs,  # jobs may still be in the queue
            resume=True,
        )
    print(f"{output.shape} in {options.out_dir / 'output.fits'}")
    for hdul in hduls:
        hdul.close()


def open_cluster(local: bool, jobs: int) -> SLURMCluster | LocalCluster:
    """Ask for jobs with one worker on each core."""
    if local:
        return LocalCluster(n_workers=2, threads_per_worker=1)
    cluster = SLURMCluster(
        cores=WORKERS_PER_JOB,
        processes=WORKERS_PER_JOB,  # so each has one thread
        memory="32GB",
        walltime="04:00:00",
        # queue="normal", account="project", interface="ib0": what your site asks for
    )
    cluster.adapt(maximum_jobs=jobs)  # which replaces jobs that reach their time limit
    return cluster


def simulate(folder: Path) -> list[Path]:
    """Write a field as one file per band."""
    write_inputs(simulate_sky((256, 256), seed=3), folder)
    return [folder / f"{band}.fits" for band in BANDS]


if __name__ == "__main__":
    main()
