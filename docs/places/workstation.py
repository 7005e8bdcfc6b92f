"""Classify every pixel of a field on the GPUs of one machine, with a dashboard.

``python workstation.py [H.fits J.fits V.fits Z.fits]``. Without images a field is simulated;
``--local`` runs two processes without a GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dask.distributed import Client, LocalCluster
from torch import nn

from morpheus_core import predict
from morpheus_core.adapters import torch_model
from morpheus_core.demo.network import WINDOW_SHAPE
from morpheus_core.demo.run import write_inputs
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--out-dir", type=Path, default="results")
    options = parser.parse_args()
    with open_cluster(options.local) as cluster, Client(cluster) as client:
        print(f"dashboard: {client.dashboard_link}")
        hduls, (output, _) = predict(
            torch_model(make_network(), activation="softmax"),
            options.images or simulate(Path("field")),
            n_classes=len(CLASS_NAMES),
            batch_size=16,
            window_shape=WINDOW_SHAPE,
            stride=(20, 20),
            aggregate_method="mean_var",
            class_names=CLASS_NAMES,
            out_dir=options.out_dir,
            executor=client,
            resume=True,
        )
    print(f"{output.shape} in {options.out_dir / 'output.fits'}")
    for hdul in hduls:
        hdul.close()


def open_cluster(local: bool) -> LocalCluster:
    """Start one worker per GPU."""
    if local:
        return LocalCluster(n_workers=2, threads_per_worker=1)
    from dask_cuda import LocalCUDACluster

    return LocalCUDACluster()  # one thread each, which is its default


def make_network() -> nn.Module:
    """Return a network that has learnt nothing; put yours in its place."""
    first, last = nn.Conv2d(len(BANDS), 32, 5, padding=2), nn.Conv2d(32, len(CLASS_NAMES), 1)
    return nn.Sequential(first, nn.ReLU(), last)


def simulate(folder: Path) -> list[Path]:
    """Write a field as one file per band."""
    write_inputs(simulate_sky((256, 256), seed=3), folder)
    return [folder / f"{band}.fits" for band in BANDS]


if __name__ == "__main__":
    main()
