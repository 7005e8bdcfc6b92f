"""Memory does not grow with the height of the image."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

RUN = """
import sys
from pathlib import Path
import numpy as np
from morpheus_core import predict
hduls, _ = predict(
    lambda batch: np.concatenate([batch[0]] * 5, axis=-1), sys.argv[1], 5, 64, (40, 40),
    stride=(20, 20), aggregate_method=["mean_var", "rank_vote"], out_dir=sys.argv[2],
    progress=False,
)
# ru_maxrss would not do: a process inherits that of the one which started it.
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])
"""


KINDS = {
    "plain": lambda pixels: [fits.PrimaryHDU(pixels)],
    "scaled": lambda pixels: [fits.PrimaryHDU((pixels * 60_000).astype(np.uint16))],
    "tiles": lambda pixels: [fits.PrimaryHDU(), fits.CompImageHDU((pixels * 99).astype(np.int16))],
}


def peak_memory(tmp_path, kind, height, width=512):
    """Return the peak resident KiB of a run in an interpreter of its own."""
    image = tmp_path / f"{height}.fits"
    pixels = np.random.default_rng(0).random((height, width), dtype=np.float32)
    fits.HDUList(KINDS[kind](pixels)).writeto(image)
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(image), str(tmp_path / str(height))],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_peak_memory_is_that_of_a_small_image(tmp_path, kind):
    peak_memory(tmp_path, kind, 100)  # compiles what is not compiled yet
    # Both are higher than what is read at once.
    small, large = (peak_memory(tmp_path, kind, height) for height in (5_000, 16_000))
    assert large < 1.1 * small
