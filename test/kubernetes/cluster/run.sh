#!/usr/bin/env bash
# Runs a command against a new Kubernetes cluster on this machine, and takes the cluster down after it:
#   run.sh TOOLS NODES COMMAND…      TOOLS is what build.sh made.
# COMMAND gets KUBECONFIG, and CLUSTER_DIR with a directory for each node, `pid` in it, and `logs`.
# Images in $IMAGES/*.tar (OCI archives) are on every node; localhost/pause:1 must be among them.
#
# All of it lives in mount, network, UTS and PID namespaces of its own, each node in a set of its own below that. So nothing
# of the machine changes but control groups, which are removed, and a killed run.sh takes everything with it. A node loses
# its power with `kill -9 $(cat $CLUSTER_DIR/node-1/pid)`. Needs root, runc, CNI plugins, nft, openssl and iproute2.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
  exec unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private -- "$0" --inside "$@"
fi
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Mounts of others: a copy of them would keep their FUSE sessions and loop devices alive until the cluster is taken down.
# Busybox's umount asks the filesystem nothing, which may be one that hangs.
let_go_of_foreign_mounts() {
  local device kind target
  while read -r device target kind _; do
    [[ $kind == fuse* || $device == /dev/loop* ]] || continue
    busybox umount -l "$(printf %b "$target")" 2>/dev/null || true
  done < <(busybox tac /proc/self/mounts)
}
let_go_of_foreign_mounts

tools=$(realpath "$1") nodes=$2
shift 2
export PATH=$tools/bin:$PATH
CLUSTER_DIR=$(mktemp -d -t union-csi-kubernetes-XXXXXX)
export CLUSTER_DIR KUBECONFIG=$CLUSTER_DIR/keys/admin.kubeconfig
name=$(basename "$CLUSTER_DIR")
gateway=10.66.0.1
processes=()
mkdir -p "$CLUSTER_DIR"/{keys,logs}

remove_cgroups() {
  find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null
  ! ls -d /sys/fs/cgroup/*/"$name"* &>/dev/null
}

# Devices of block volumes that were attached to the end: what was behind them has gone with its node, and is called /.
orphaned_devices() {
  losetup --list --noheadings --raw --output NAME,BACK-FILE | sed -n 's# /$##p' | sort
}

take_down() {
  local status=$?
  trap - EXIT
  ((${#processes[@]} == 0)) || kill -9 "${processes[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  orphaned_devices | comm -13 <(echo "$orphaned_before") - | xargs -r -n 1 losetup --detach || true
  within 10 remove_cgroups || left 'its control groups'
  if [[ -n ${KEEP_LOGS:-} ]]; then
    mkdir -p "$KEEP_LOGS" && cp -r "$CLUSTER_DIR"/logs/. "$KEEP_LOGS"
  fi
  # Somebody may still be writing while it dies.
  within 10 rm -rf --one-file-system "$CLUSTER_DIR" || left "$CLUSTER_DIR"
  exit $status
}

# Leaving something behind is a failure, whatever became of the command.
left() {
  echo "could not remove all of the cluster: $1 is left" >&2
  ((status != 0)) || status=1
}
orphaned_before=$(orphaned_devices)
trap take_down EXIT
trap 'exit 130' INT TERM

# within SECONDS COMMAND…: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" &>/dev/null; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

need() {
  within "$@" && return 0
  printf 'gave up after %s s: %s\n' "$1" "${*:2}" >&2
  tail -n 3 "$CLUSTER_DIR"/logs/* >&2
  exit 1
}

start() {
  local log=$CLUSTER_DIR/logs/$1.log
  shift
  "$@" >"$log" 2>&1 &
  processes+=($!)
}

kubeconfig() { # NAME TOKEN
  cat <<Y
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: $1}}]
users: [{name: $1, user: {token: $2}}]
clusters: [{name: test, cluster: {server: "https://$gateway:6443", certificate-authority: $CLUSTER_DIR/keys/ca.crt}}]
Y
}

certificate() { # NAME SUBJECT [EXTENSION]
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 2 -extfile <(echo "${3:-}")
}

make_keys() {
  cd "$CLUSTER_DIR/keys"
  {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test -days 2
    certificate server /CN=kube-apiserver "subjectAltName=IP:$gateway,IP:10.96.0.1,DNS:kubernetes.default.svc"
    certificate to-kubelet /O=system:masters/CN=kube-apiserver
    openssl genrsa -out accounts.key 2048
    openssl rsa -in accounts.key -pubout -out accounts.pub
  } 2>openssl.log || { cat openssl.log >&2; exit 1; }
  local i
  echo 'admin-token,admin,admin,"system:masters"' >tokens.csv
  kubeconfig admin admin-token >admin.kubeconfig
  for i in $(seq "$nodes"); do
    echo "node-$i-token,system:node:node-$i,node-$i,system:nodes" >>tokens.csv
    kubeconfig "node-$i" "node-$i-token" >"node-$i.kubeconfig"
  done
  # Who asked for what: the tests compare it with what deploy/ allows.
  cat >audit.yaml <<Y
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, userGroups: ["system:serviceaccounts:union-csi"]}, {level: None}]
Y
}

start_control_plane() {
  start etcd etcd --data-dir "$CLUSTER_DIR/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
  start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --advertise-address=$gateway --secure-port=6443 --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file=server.crt --tls-private-key-file=server.key --client-ca-file=ca.crt --token-auth-file=tokens.csv \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=accounts.pub \
    --service-account-signing-key-file=accounts.key --allow-privileged=true --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement \
    --kubelet-client-certificate=to-kubelet.crt --kubelet-client-key=to-kubelet.key \
    --kubelet-preferred-address-types=InternalIP --audit-policy-file=audit.yaml --audit-log-path="$CLUSTER_DIR/logs/audit.log"
  need 90 kubectl get --raw /readyz
  start kube-controller-manager kube-controller-manager --kubeconfig "$KUBECONFIG" --leader-elect=false \
    --service-account-private-key-file=accounts.key --root-ca-file=ca.crt --use-service-account-credentials \
    --attach-detach-reconcile-sync-period=5s --node-monitor-grace-period=20s --kube-api-qps=300 --kube-api-burst=600
  start kube-scheduler kube-scheduler --kubeconfig "$KUBECONFIG" --leader-elect=false --kube-api-qps=300 --kube-api-burst=600
}

start_node() { # INDEX
  local node=node-$1
  mkdir "$CLUSTER_DIR/$node"
  # Made before kubelet asks for it, which saves it minutes of back-off.
  kubectl create -f - >/dev/null <<Y
{apiVersion: v1, kind: Node, metadata: {name: $node, labels: {kubernetes.io/hostname: $node, topology.kubernetes.io/zone: zone-$1}}}
Y
  start "$node" unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private -- \
    "$here/node.sh" "$node" "$1" "$nodes" "$gateway"
  need 20 test -e "$CLUSTER_DIR/$node/started"
  pgrep -P "${processes[-1]}" >"$CLUSTER_DIR/$node/pid"
  ip link add "port-$1" type veth peer name eth0 netns "$(<"$CLUSTER_DIR/$node/pid")"
  ip link set "port-$1" master cluster up
  ip route add "10.244.$1.0/24" via "10.66.0.$((10 + $1))"
  touch "$CLUSTER_DIR/$node/connected"
}

ip link set lo up
ip link add cluster type bridge
ip addr add $gateway/24 dev cluster
ip link set cluster up
sysctl -qw net.ipv4.ip_forward=1
make_keys
start_control_plane
for i in $(seq "$nodes"); do start_node "$i"; done
need 180 kubectl wait --for=condition=Ready node --all --timeout=5s
need 30 kubectl get serviceaccount default
echo "a cluster of $nodes nodes is ready after $SECONDS s"
cd "$here"
# In the background, so that a signal is noticed at once.
"$@" &
processes+=($!)
wait $!
