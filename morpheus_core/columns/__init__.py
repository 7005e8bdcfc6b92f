"""What a table says of a row's scores, and how good the distributions of a table are.

For ``predict_catalog(columns=[...])``: `argmax`, `top`, `entropy`, the scores of all classes, and
these as one column may be named as text, ``["classes", "top"]`` or ``"vector"``. `expected_value`,
`std`, `quantiles`, `mode`, `odds` and `vector` are for models whose classes are bins of a quantity,
such as redshift. They and `entropy` need probabilities: scores >= 0 with a sum of one.

Bins reach to the middle between two centres, the first and the last as far outwards as inwards, and
a distribution is even within each. `pit`, `crps` and `redshift_summary` compare distributions with
true values.
"""

from morpheus_core.columns.bins import (
    bin_edges,
    bins_of,
    expected_value,
    mode,
    odds,
    quantiles,
    std,
    vector,
)
from morpheus_core.columns.derived import Derived, argmax, entropy, top
from morpheus_core.columns.truth import RedshiftSummary, crps, pit, redshift_summary

__all__ = [
    "Derived",
    "RedshiftSummary",
    "argmax",
    "bin_edges",
    "bins_of",
    "crps",
    "entropy",
    "expected_value",
    "mode",
    "odds",
    "pit",
    "quantiles",
    "redshift_summary",
    "std",
    "top",
    "vector",
]
