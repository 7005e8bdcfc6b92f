#!/usr/bin/env bash
# dill (0.4.1) stores what a script defines by value only while the script is called __main__: in processes that
# multiprocessing spawns it is __mp_main__, and dill stores its names, which other interpreters do not find.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "dill==${DILL:-0.4.1}"
cat > "$folder/script.py" <<'end'
import multiprocessing
import subprocess
import sys

import dill


def model(batch):
    return batch


def loads_elsewhere(_):
    """Say what a fresh interpreter says of the pickled function."""
    pickled = dill.dumps(model, recurse=True)
    code = "import sys, dill; print(dill.load(sys.stdin.buffer)(3))"
    run = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)
    return "loads" if run.returncode == 0 else run.stderr.decode().strip().splitlines()[-1]


if __name__ == "__main__":
    print("dill", dill.__version__, "python", sys.version.split()[0])
    here = loads_elsewhere(None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (spawned,) = pool.map(loads_elsewhere, [None])
    print("pickled by the script itself:     ", here)
    print("pickled in a process of its pool: ", spawned)
    raise SystemExit(0 if here == "loads" != spawned else 1)
end
"$folder/venv/bin/python" "$folder/script.py"
