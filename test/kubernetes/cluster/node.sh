#!/usr/bin/env bash
# One node of the test cluster, in namespaces of its own: containerd, kube-proxy and kubelet. Started by run.sh.
# What it works around are machines that are containers themselves: control groups of version 1, no CAP_SYS_RESOURCE, and
# one /proc/sys for all.
set -euo pipefail
node=$1 index=$2 nodes=$3 gateway=$4
home=$CLUSTER_DIR/$node
cgroup=$(basename "$CLUSTER_DIR")-$node
address=10.66.0.$((10 + index))

hostname "$node"
touch "$home/started"
until [[ -e $home/connected ]]; do sleep 0.1; done
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$gateway"
for other in $(seq "$nodes"); do
  [[ $other == "$index" ]] || ip route add "10.244.$other.0/24" via 10.66.0.$((10 + other))
done
sysctl -qw net.ipv4.ip_forward=1

# Directories that a node writes are its own, and its mounts propagate within it, as on any node.
mount --make-rshared /
# Kubelet and kube-proxy set these for the whole machine: they get files to write to.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  file=$home/${setting##*/}
  cat "/proc/sys/$setting" >"$file"
  mount --bind "$file" "/proc/sys/$setting"
done
mkdir -p /var/lib/kubelet /var/lib/cni
for place in /run /mnt /var/log /var/lib/kubelet /var/lib/cni; do mount -t tmpfs "$node" "$place"; done
mkdir -p /run/netns /run/lock /var/lib/union-csi "$home"/{containerd,network,disk}
mount --bind "$home/disk" /var/lib/union-csi

for controller in cpu cpuacct cpuset memory devices freezer blkio pids systemd unified; do
  [[ ! -d /sys/fs/cgroup/$controller ]] || mkdir -p "/sys/fs/cgroup/$controller/$cgroup"
done
# A new cpuset is empty and takes no process.
for setting in cpuset.cpus cpuset.mems; do
  [[ ! -e /sys/fs/cgroup/cpuset/$setting ]] || cat "/sys/fs/cgroup/cpuset/$setting" >"/sys/fs/cgroup/cpuset/$cgroup/$setting"
done

cat >"$home/network/pods.conflist" <<Y
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$index.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$home/addresses"}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
Y
cat >"$home/containerd.toml" <<Y
version = 3
root = "$home/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd.sock"
[ttrpc]
  address = "/run/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$home/network"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.internal.v1.opt']
  path = "$home/opt"
Y
# No image is deleted when the machine's disk fills up: there is nobody to pull it from again.
cat >"$home/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $CLUSTER_DIR/keys/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
containerRuntimeEndpoint: unix:///run/containerd.sock
evictionHard: {memory.available: 100Mi}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
maxOpenFiles: 20000
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 1s
oomScoreAdj: 0
podLogsDir: /var/log/pods
syncFrequency: 10s
volumeStatsAggPeriod: 10s
Y

ctr() { command ctr --address /run/containerd.sock "$@"; }
containerd --config "$home/containerd.toml" >"$CLUSTER_DIR/logs/$node-containerd.log" 2>&1 &
until ctr version &>/dev/null; do sleep 0.1; done
for image in "$IMAGES"/*.tar; do ctr --namespace k8s.io images import --local "$image"; done
kube-proxy --kubeconfig "$KUBECONFIG" --hostname-override "$node" --proxy-mode nftables --cluster-cidr 10.244.0.0/16 \
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
  >"$CLUSTER_DIR/logs/$node-kube-proxy.log" 2>&1 &

# Tests restart it: `kill $(pgrep kubelet)` in the node's namespaces.
while :; do
  kubelet --config "$home/kubelet.yaml" --kubeconfig "$CLUSTER_DIR/keys/$node.kubeconfig" --cert-dir "$home/keys" \
    --hostname-override "$node" --node-ip "$address" >>"$CLUSTER_DIR/logs/$node-kubelet.log" 2>&1 || true
  sleep 0.2
done
