"""Classify every pixel of a field on the cores of one machine.

``python laptop.py [--cpus 2] [H.fits J.fits V.fits Z.fits]``. Without images a field is simulated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.run import write_inputs
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--out-dir", type=Path, default="results")
    options = parser.parse_args()
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
        cpus=options.cpus,
        resume=True,
    )
    print(f"{output.shape} in {options.out_dir / 'output.fits'}")
    for hdul in hduls:
        hdul.close()


def simulate(folder: Path) -> list[Path]:
    """Write a field as one file per band."""
    write_inputs(simulate_sky((256, 256), seed=3), folder)
    return [folder / f"{band}.fits" for band in BANDS]


if __name__ == "__main__":
    main()
