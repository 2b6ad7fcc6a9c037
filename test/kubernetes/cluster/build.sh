#!/usr/bin/env bash
# Builds what a real Kubernetes consists of, the CSI sidecars and third-party drivers that the tests need, from Go modules:
#   build.sh DIR        some minutes on two cores, nothing when DIR has it all
# Programs whose dependencies agree are built together, and nothing is made for debuggers: most of the time goes into libraries.
# Needs Go 1.26.
set -euo pipefail

out=$(realpath -m "${1:?usage: build.sh DIR}")
kubernetes=1.36.3
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath"

# Kubernetes's own go.mod takes these from its source tree, which is not part of the module; sidecars are built against the same.
staged=(api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap code-generator
  component-base component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib
  dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler
  kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-controller streaming)

version=k8s.io/component-base/version
flags="-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=${kubernetes%%.*} -X $version.gitMinor=$(cut -d. -f2 <<<$kubernetes)"

# build 'MODULE@VERSION…' PACKAGE…: main packages out of these modules, which agree on their dependencies. A program is called as
# its package is, and there is one directory of them for each set of versions, so that a new version is built afresh.
build() {
  local required=$1
  shift
  local work package name
  work=$out/modules/$(basename "${required%% *}")-$(sha256sum <<<"$required" | cut -c1-8)
  local -a missing=()
  for package in "$@"; do [[ -e $work/bin/${package##*/} ]] || missing+=("$package"); done
  if ((${#missing[@]} > 0)); then
    mkdir -p "$work/bin"
    cd "$work"
    if [[ ! -e go.sum ]]; then
      rm -f go.mod
      go mod init build/programs
      if [[ $required == *k8s.io/kubernetes@* || $required == *kubernetes-csi/external-* ]]; then
        for name in "${staged[@]}"; do go mod edit -replace="k8s.io/$name=k8s.io/$name@v0.${kubernetes#1.}"; done
      fi
      printf '//go:build tools\n\npackage tools\n\n' >tools.go
      printf 'import _ "%s"\n' "$@" >>tools.go
      # shellcheck disable=SC2086 # a list of words
      go get $required
      go mod tidy
    fi
    for package in "${missing[@]}"; do
      local started=$SECONDS
      go build -gcflags=all=-dwarf=false -ldflags "$flags" -o "bin/${package##*/}.new" "$package"
      mv "bin/${package##*/}.new" "bin/${package##*/}"
      echo "built $package in $((SECONDS - started)) s"
    done
  fi
  mkdir -p "$out/bin"
  for package in "$@"; do
    name=${package##*/}
    # etcd's main package has the name of its major version.
    [[ $package == go.etcd.io/* ]] && name=etcd
    ln -sfn "$work/bin/${package##*/}" "$out/bin/$name"
  done
}

csi=github.com/kubernetes-csi
build k8s.io/kubernetes@v$kubernetes k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
build "$csi/external-provisioner/v6@v6.3.0 $csi/external-attacher/v4@v4.13.0 $csi/external-resizer/v2@v2.3.0 $csi/csi-test/v5@v5.6.0 github.com/rancher/local-path-provisioner@v0.0.30" \
  $csi/external-provisioner/v6/cmd/csi-provisioner $csi/external-attacher/v4/cmd/csi-attacher \
  $csi/external-resizer/v2/cmd/csi-resizer $csi/csi-test/v5/cmd/csi-sanity \
  github.com/rancher/local-path-provisioner
build github.com/containerd/containerd/v2@v2.4.2 github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
build go.etcd.io/etcd/server/v3@v3.6.8 go.etcd.io/etcd/server/v3
