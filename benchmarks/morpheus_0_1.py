"""The overhead of morpheus-core 0.1.13, which needs an environment of its own.

``python benchmarks/morpheus_0_1.py WINDOW STRIDE SIDE CLASSES METHOD`` prints nanoseconds per
predicted value.
"""

import sys
import time
from importlib.metadata import version

import numpy as np
from ready import Case, Ready

from morpheus_core import morpheus_core

assert version("morpheus-core") == "0.1.13"
*numbers, method = sys.argv[1:]
case = Case(*map(int, numbers))


def overhead(case):
    model = Ready(case)
    start = time.perf_counter()
    morpheus_core.predict(
        model,
        [np.zeros((case.side, case.side), np.float32)],
        case.classes,
        case.batch_size,
        (case.window, case.window),
        stride=(case.stride, case.stride),
        aggregate_method=method,
    )
    return (time.perf_counter() - start - model.seconds) / case.values * 1e9


overhead(case._replace(side=case.window + case.stride))  # compile
print(overhead(case))
