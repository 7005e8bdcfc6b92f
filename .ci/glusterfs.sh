#!/bin/bash
# glusterfs.sh PYTHON SOURCE CASE=RUNS...: as root, where `apt-get install glusterfs-server` was done.
# A volume of GlusterFS with two mounts on this machine, each of which is all that a process sees of it;
# see shared_folder.py. Starts daemons of its own, in a folder that it removes, and ends them.
set -euo pipefail
# All processes are of a namespace that ends with this script, however it ends.
[ $$ = 1 ] || exec unshare --pid --fork --kill-child --mount-proc bash "${BASH_SOURCE[0]}" "$@"
place=$(mktemp -d "${TMPDIR:-/tmp}/glusterfs.XXXXXX")
brick=$place/brick
export EXPORT=$place/shared SERVER_EXPORT=$brick OUT=${OUT:-$place/out} # logs
mkdir -p "$EXPORT" "$brick" "$OUT" "$place"/{state,m1,m2}

# glusterd with all that it keeps in the folder
sed "s|option working-directory .*|option working-directory $place/state|" /etc/glusterfs/glusterd.vol >"$place/glusterd.vol"
glusterd -N -f "$place/glusterd.vol" -l "$OUT/glusterd.log" -p "$place/glusterd.pid" &
daemon=$!
finish() {
    for process in "${machines[@]}"; do kill -KILL -- "$process" 2>/dev/null || true; done
    gluster --mode=script volume stop strips force >/dev/null || true
    kill "$daemon"; wait "$daemon" || true
    rm -rf "$place"
}
machines=()
trap finish EXIT
for _ in $(seq 50); do gluster volume list >/dev/null 2>&1 && break; sleep 0.2; done
gluster --mode=script volume create strips "$(hostname):$brick" force
gluster volume start strips

machine() { # NAME, in namespaces of its own: its own mount at the same path, and its own boot id
    hostname "$1"
    mount -t glusterfs "$SERVER_NAME:/strips" "$EXPORT"
    cat /proc/sys/kernel/random/uuid >"$EXPORT/../$1/boot_id"
    mount --bind "$EXPORT/../$1/boot_id" /proc/sys/kernel/random/boot_id
    echo ready >"$EXPORT/../$1/ready"
    exec sleep infinity
}
SERVER_NAME=$(hostname)
export SERVER_NAME
export -f machine
for name in m1 m2; do
    unshare -m -u --propagation private bash -c "machine $name" &
    machines+=($!)
    for _ in $(seq 100); do [ -e "$place/$name/ready" ] && break; sleep 0.2; done
done
export PROCESS_m1=${machines[0]} PROCESS_m2=${machines[1]}
on() {
    local machine=$1; shift
    case $machine in
    server) "$@" ;;
    *) local process=PROCESS_$machine; nsenter -t "${!process}" -m -u -w "$@" ;;
    esac
}
stop_server() { gluster --mode=script volume stop strips force >/dev/null; }
start_server() {
    gluster volume start strips >/dev/null
    for name in m1 m2; do # which see it again a few seconds later
        for _ in $(seq 100); do on $name ls "$EXPORT" >/dev/null 2>&1 && break; sleep 0.2; done
    done
}
export -f on stop_server start_server
export FILE_SYSTEM=GlusterFS ADDRESS=127.0.0.1 NOTES=$place/batches
"$1" "$(dirname "${BASH_SOURCE[0]}")/shared_folder.py" drive "${@:2}"
