"""What is done to whole images before windows are cut of them, for ``prepare=`` of `predict`.

Each takes the image block by block of rows, so that it need not fit into memory, band by band, and
gives float32. Pixels that are not finite count for nothing, and stay what they are. Masks are not
looked at.

Examples
--------
>>> import numpy as np
>>> from morpheus_core import predict, preparing
>>> def bright(batch):
...     return batch[0] > 3
>>> image = np.random.default_rng(0).normal(100, 10, (80, 90)) + np.arange(90)
>>> image[40, 45] += 80
>>> _, (share, _) = predict(bright, image, 1, 64, (8, 8), stride=(4, 4),
...                         prepare=preparing.MeshBackground(box=16), aggregate_method="mean_var",
...                         progress=False)
>>> bool(share[40, 45, 0, 0] == 1), int((share[..., 0, 0] > 0).sum()) < 30
(True, True)
"""

from morpheus_core.preparing.levels import GlobalMedian, Percentiles
from morpheus_core.preparing.mesh import MeshBackground

__all__ = ["GlobalMedian", "MeshBackground", "Percentiles"]
