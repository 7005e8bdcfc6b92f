# SCRIPT for `run` of the harness two-machines: nfs.sh PYTHON SOURCE CASE=RUNS...
# Two clients of a kernel's NFS server; see shared_folder.py.
stop_server() { rpc.nfsd 0; }
start_server() { rpc.nfsd -G 10 -L 10 4; }
export -f stop_server start_server
export FILE_SYSTEM="NFS $NFS" ADDRESS=$M1 NOTES=/tmp/batches PYTHONDONTWRITEBYTECODE=1
exec "$1" "$(dirname "${BASH_SOURCE[0]}")/shared_folder.py" drive "${@:2}"
