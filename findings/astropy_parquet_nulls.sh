#!/usr/bin/env bash
# astropy (8.0.2) reads whole numbers of a Parquet column with nulls as float64, so that long identifiers change,
# and does not read a text column with nulls at all: TypeError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "astropy==${ASTROPY:-8.0.2}" pyarrow==26.0.1 pandas==3.1.1
"$folder/venv/bin/python" - "$folder" <<'end'
import sys

import astropy
import pyarrow
from astropy.table import Table
from pyarrow import parquet

identifiers, names = [587727178986356823, None], ["M 31", None]
parquet.write_table(pyarrow.table({"id": identifiers}), f"{sys.argv[1]}/id.parquet")
parquet.write_table(pyarrow.table({"name": names}), f"{sys.argv[1]}/name.parquet")
column = Table.read(f"{sys.argv[1]}/id.parquet")["id"]
print("astropy", astropy.__version__, "pyarrow", pyarrow.__version__)
print("written:", identifiers[0], "read:", int(column[0]), "as", column.dtype)
try:
    said = str(Table.read(f"{sys.argv[1]}/name.parquet")["name"].tolist())
except TypeError as error:
    said = f"TypeError: {error}"
print("written:", names, "read:", said)
is_there = column.dtype == "float64" and int(column[0]) != identifiers[0] and "TypeError" in said
raise SystemExit(0 if is_there else 1)
end
