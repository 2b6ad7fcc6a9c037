#!/usr/bin/env bash
# What a machine must let root do for a cluster to run on it, tried in namespaces that are gone a moment later. Prints what it
# does not, one line each, and nothing when all is well. Programs are not looked for here: those can be installed.
set -uo pipefail

lacks() { # WHAT COMMAND…
  local what=$1 said
  shift
  said=$("$@" 2>&1) || echo "$what (${said%%$'\n'*})"
}

control_groups() {
  local controller place
  for controller in cpu cpuset devices memory pids; do
    place=/sys/fs/cgroup/$controller/union-csi-check-$$
    mkdir "$place" && rmdir "$place" || return 1
  done
}

nodes() { # two levels, as a node is within the cluster
  unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private -- \
    unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private -- true
}

inside() { # in namespaces of its own
  unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private -- bash -euc "$1"
}

lacks 'control groups of version 1, writable' control_groups
lacks 'namespaces within namespaces' nodes
lacks 'bridges and veth pairs' inside 'ip link add bridge type bridge; ip link add port type veth peer name eth0'
lacks 'nftables' inside 'nft add table inet check; nft add chain inet check nat "{ type nat hook postrouting priority 100; }"'
lacks 'forwarding' inside 'sysctl -qw net.ipv4.ip_forward=1'
lacks 'overlay mounts' inside 'mount -t tmpfs check /mnt; cd /mnt; mkdir a b c d; mount -t overlay -o lowerdir=a,upperdir=b,workdir=c overlay d'
lacks '/dev/fuse' test -w /dev/fuse
lacks 'loop devices' losetup --find
