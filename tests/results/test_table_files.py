"""Tables in the formats of files."""

import numpy as np
import pytest
from astropy.table import Table

from morpheus_core.results.table_files import WRITERS


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int16", "int16"),
        ("int64", "int64"),
    ],
)
def test_columns_of_votables_keep_their_type_unless_it_is_half_precision(tmp_path, dtype, stored):
    values = np.array([1.0, 1 / 3, 1e4]).astype(dtype)
    table = Table({"x": values, "name": ["a", "b", "c"]})
    WRITERS[".vot"](table, tmp_path / "table.vot")
    found = Table.read(tmp_path / "table.vot", format="votable")
    assert found["x"].dtype == stored
    np.testing.assert_array_equal(found["x"], values)
    assert list(found["name"]) == ["a", "b", "c"]
    assert table["x"].dtype == dtype
