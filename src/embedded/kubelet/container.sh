#!/bin/sh
# Runs one container: a process in mount and pid namespaces of its own, on a fresh root. Started detached, so it outlives
# the cluster process. Two stages of one script, told apart by the first argument.
#
#   container.sh outer STATE ...     (on the host) waits for the container, leaves its exit code in STATE/exit
#   container.sh inner STATE ROOT [MOUNT]... -- COMMAND [ARGUMENT]...
#
# ROOT is ro or rw: whether the container may write outside its volumes. MOUNT is KIND SOURCE TARGET, in
# order: KIND is ro or rw, or device for a node of its own of the device SOURCE. STATE/root is where the root is put together.
#
# STATE/shim and STATE/init are the lines of /proc/PID/stat of the outer stage and of the container's first process (pids as the
# host counts), which tell them from later processes of those numbers. Renaming init into place is the moment from which the
# container exists: whoever gave up on it before has moved STATE away, the renaming fails, and nothing runs.
# STATE/started has something in it once the command runs: before that the process, as the first of its namespace, would not
# notice a SIGTERM.
#
# When the command runs, the host's mounts, those of other volumes among them, are gone from this namespace: else a union
# unmounted on the host would live on in here.
set -eu
stage=$1 state=$2
read -r stat </proc/self/stat

if [ "$stage" = outer ]; then
  shift
  echo "$stat" >"$state/shim"
  code=0
  unshare --mount --pid --fork --kill-child --propagation slave /bin/sh "$0" inner "$@" || code=$?
  echo "$code" >"$state/exit.new"
  mv "$state/exit.new" "$state/exit"
  exit 0
fi

access=$3
shift 3
echo "$stat" >"$state/init.new"
mv "$state/init.new" "$state/init"
exec 9>"$state/started"

root=$state/root
mount -t tmpfs -o mode=755,size=64m container "$root"
cd "$root"
mkdir -m 1777 tmp
mkdir dev proc run home root var var/tmp .host
for directory in /usr /bin /sbin /lib /lib32 /lib64 /etc; do
  if [ -L "$directory" ]; then
    ln -s "$(readlink "$directory")" "$root$directory"
  elif [ -d "$directory" ]; then
    mkdir "$root$directory"
    mount --no-mtab -o bind,ro "$directory" "$root$directory"
  fi
done
mount --no-mtab -t proc proc proc
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

while [ "$1" != -- ]; do
  if [ "$1" = device ]; then
    mkdir -p "$(dirname "$root$3")"
    mknod -m 660 "$root$3" b $(stat -c '0x%t 0x%T' "$2")
    shift 3
    continue
  fi
  mkdir -p "$root$3"
  if [ "$1" = ro ]; then options=bind,ro; else options=bind; fi
  mount --no-mtab -o "$options" "$2" "$root$3"
  shift 3
done
shift

pivot_root . .host
umount --no-mtab --lazy /.host
rmdir /.host
if [ "$access" = ro ]; then mount --no-mtab -o remount,bind,ro /; fi
echo yes >&9
exec "$@" 9>&-
