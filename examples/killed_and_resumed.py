"""
A long run that is killed and resumed
=====================================

A run over a large mosaic takes hours, and batch systems, full disks and power cuts do not ask how
far it is. Here such a run is killed in the middle, with the signal that no program can catch, and
the same call with ``resume=True`` completes it: finished rows are kept, only the windows that touch
others are evaluated again, and the result has the bytes of a run that nobody interrupted.

It needs the extra ``plot``.
"""

# %%
# A long run
# ----------
#
# It is a script of its own, so that it can be killed without this page. The model looks for stars:
# is a pixel above all the others around it, and how far above the noise? So that the run is long it
# sleeps a little with each batch, in place of a large network.
#
# The second image is a trick of this page: pixel by pixel it holds its own number, so the model
# knows which windows it sees and can note them in a file.

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

LONG_RUN = '''
import os
import sys
import time

import numpy as np

from morpheus_core import predict


class StarFinder:
    """Say where the middle of a star is, and note which windows were seen."""

    def __init__(self, notes):
        self.notes = notes

    def __call__(self, batch):
        image, numbers = batch                               # each (batch, 32, 32, 1)
        time.sleep(0.03)
        with open(f"{self.notes}/{os.getpid()}.txt", "a") as file:
            file.writelines(f"{first}\\n" for first in numbers[:, 0, 0, 0])
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
        light = around.mean(axis=(-1, -2))                   # (batch, 32, 32, 1)
        star = (image >= around.max(axis=(-1, -2))) / (1 + np.exp(3 - light))
        return np.concatenate([star, 1 - star], axis=-1)     # (batch, 32, 32, 2)


out_dir, cpus, resume = sys.argv[1:]
os.makedirs(f"{out_dir}-notes", exist_ok=True)
hduls, _ = predict(
    StarFinder(os.path.abspath(f"{out_dir}-notes")),
    ["sky.fits", "numbers.fits"],
    n_classes=2,
    batch_size=16,
    window_shape=(32, 32),
    stride=(8, 8),
    aggregate_method="mean_var",
    out_dir=out_dir,
    cpus=int(cpus),
    resume=resume == "resume",
    progress=False,
)
'''

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)
(folder / "long_run.py").write_text(LONG_RUN)

SIDE = 512
#: Every row, and every column, in which windows begin.
FIRSTS = slice(0, SIDE - 32 + 1, 8)
random = np.random.default_rng(9)
sky = random.normal(size=(SIDE, SIDE)).astype(np.float32)
rows, columns = np.mgrid[:SIDE, :SIDE]
for row, column, height in random.uniform((0, 0, 10), (SIDE, SIDE, 60), (150, 3)):
    sky += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)
fits.writeto(folder / "sky.fits", sky)
fits.writeto(folder / "numbers.fits", np.arange(SIDE**2, dtype=np.int32).reshape(SIDE, SIDE))


def start(out_dir, cpus, resume="begin"):
    """Start the script, and return its process."""
    command = [sys.executable, "long_run.py", out_dir, str(cpus), resume]
    return subprocess.Popen(command, cwd=folder)


def windows_seen(out_dir):
    """Return how often each window was evaluated, (window row, window column)."""
    files = (folder / f"{out_dir}-notes").glob("*.txt")
    firsts = [int(line) for file in files for line in file.read_text().splitlines()]
    return np.bincount(firsts, minlength=SIDE**2).reshape(SIDE, SIDE)[FIRSTS, FIRSTS]


# %%
# Killed
# ------
#
# Two processes share the run. When they have seen half of the windows the one that started them is
# killed; the two notice that and end at once.

N_WINDOWS = windows_seen("nowhere").size

process = start("results", cpus=2)
while windows_seen("results").sum() < N_WINDOWS // 2 and process.poll() is None:
    time.sleep(0.1)
process.send_signal(signal.SIGKILL)
process.wait()
time.sleep(1)  # for the workers
before = windows_seen("results")

print(f"ended by {signal.Signals(-process.returncode).name}")
print(f"{before.sum()} of {N_WINDOWS} windows were evaluated")
print("in the folder:", *sorted(path.name for path in (folder / "results").iterdir()))

# %%
# There is no ``output.fits``: a file of that name is always complete. What is there are the parts,
# of which rows are written as soon as no later window can touch them. Rows of n that are not zero
# are finished.

with fits.open(folder / "results" / "n.fits.part") as parts:
    n_killed = np.array(parts[0].data)
finished = n_killed.any(axis=1)
print(f"{finished.sum()} of {SIDE} rows are finished")

# %%
# Resumed
# -------
#
# The same call with ``resume=True``; this time with one process instead of two.

process = start("results", cpus=1, resume="resume")
assert process.wait() == 0
after = windows_seen("results") - before

twice = (before + after > 1).sum()
print(f"{after.sum()} windows were evaluated, {twice} of them for the second time")
print("in the folder:", *sorted(path.name for path in (folder / "results").iterdir()))

assert (before + after > 0).all()
assert after.sum() < 0.7 * N_WINDOWS

# %%
# Windows whose rows were unfinished when the run was killed are evaluated again: what was only in
# memory is lost, and that is little more than a window height in each process, whatever the size of
# the image.

KINDS = ["before the kill", "after it", "both"]
COLOURS = ["#56B4E9", "#E69F00", "#15171C"]
kinds = np.where(before + after > 1, 2, np.where(after > 0, 1, 0))

figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
axes[0].imshow(sky, origin="lower", cmap="gray", vmin=-3, vmax=25)
axes[0].set(title="the image", xlabel="column (pixels)", ylabel="row (pixels)")
picture = axes[1].imshow(n_killed, origin="lower", cmap="cividis", vmin=0)
axes[1].set(title="n when the run was killed", xlabel="column (pixels)")
figure.colorbar(picture, ax=axes[1], shrink=0.7, label="predictions of a pixel")
axes[2].imshow(np.array([to_rgb(colour) for colour in COLOURS])[kinds], origin="lower")
axes[2].set(title="when windows were evaluated", xlabel="window column", ylabel="window row")
handles = [Patch(color=colour) for colour in COLOURS]
figure.legend(handles, KINDS, loc="outside lower right", ncols=3)
plt.show()

# %%
# The same bytes
# --------------
#
# A run that nobody interrupts, with two processes as the first, is compared with what came of the
# killed one.

process = start("uninterrupted", cpus=2)
assert process.wait() == 0
assert (windows_seen("uninterrupted") == 1).all()

for name in ("output.fits", "n.fits"):
    data = [fits.getdata(folder / run / name).tobytes() for run in ("results", "uninterrupted")]
    print(f"{name}: {len(data[0])} bytes of data, equal: {data[0] == data[1]}")
    assert data[0] == data[1]

# %%
# For your own data
# -----------------
#
# - Pass ``resume=True`` from the beginning: where there is no run to continue, one begins. Then the
#   line in your batch script is the same each time it is submitted, also
#   ``morpheus-core predict ... --resume`` on the command line.
# - Arguments, images and model must be those of the run that began; a difference is refused and
#   named. Only the number of processes, ``prefetch``, ``progress`` and ``parallel_check_interval``
#   may change.
# - Runs in other processes (``cpus=``, ``gpus=``) keep the model that they began with in the
#   folder. A run in one process keeps none and needs the same model again.
# - In place of ``StarFinder`` comes your network, see :doc:`/models`; the file of notes and the
#   image of numbers are of no use to you.

workplace.cleanup()
