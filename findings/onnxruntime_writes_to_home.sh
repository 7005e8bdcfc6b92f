#!/usr/bin/env bash
# onnxruntime (1.32.0) writes an id of the device and a database of usage events below the user's home when it is
# imported, in each process that is the first there; ORT_DISABLE_TELEMETRY=1 before the import prevents it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "onnxruntime==${ONNXRUNTIME:-1.32.0}"
mkdir "$folder/plain" "$folder/asked"
show() { (cd "$1" && find . -type f | sort | sed 's/^/  /'); }
unset ORT_DISABLE_TELEMETRY XDG_CACHE_HOME
HOME="$folder/plain" "$folder/venv/bin/python" -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
HOME="$folder/asked" ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" -c "import onnxruntime"
echo "files in a fresh home after the import:"
show "$folder/plain"
echo "with ORT_DISABLE_TELEMETRY=1:"
show "$folder/asked"
[ -n "$(show "$folder/plain")" ] && [ -z "$(show "$folder/asked")" ]
