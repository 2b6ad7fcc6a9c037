#!/usr/bin/env bash
# Builds what a real Kubernetes consists of, the CSI sidecars and third-party drivers that the tests need, from Go modules:
#   build.sh DIR        some minutes on two cores, nothing when DIR has it all
# Every program is built in a module of its own, because their dependencies disagree. Needs Go 1.26.
set -euo pipefail

out=$(realpath -m "${1:?usage: build.sh DIR}")
kubernetes=1.36.3
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath"

# Kubernetes's own go.mod takes these from its source tree, which is not part of the module.
staged=(api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap code-generator
  component-base component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib
  dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler
  kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-controller streaming)

version=k8s.io/component-base/version
flags="-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=${kubernetes%%.*} -X $version.gitMinor=$(cut -d. -f2 <<<$kubernetes)"

# build MODULE VERSION [PACKAGE…]: main packages below the module, or the module itself. A program is called as its package
# is, and there is one directory of them for each version, so that a new version is built afresh.
build() {
  local module=$1 release=$2
  shift 2
  local work=$out/modules/${module//\//_}@$release package program name
  local -a packages=("${@/#/$module/}")
  (($# > 0)) || packages=("$module")
  local -a missing=()
  for package in "${packages[@]}"; do [[ -e $work/bin/${package##*/} ]] || missing+=("$package"); done
  if ((${#missing[@]} > 0)); then
    mkdir -p "$work/bin"
    cd "$work"
    if [[ ! -e go.sum ]]; then
      rm -f go.mod
      go mod init "build/${module##*/}"
      if [[ $module == k8s.io/kubernetes ]]; then
        for name in "${staged[@]}"; do go mod edit -replace="k8s.io/$name=k8s.io/$name@v0.${kubernetes#1.}"; done
      fi
      printf '//go:build tools\n\npackage tools\n\n' >tools.go
      printf 'import _ "%s"\n' "${packages[@]}" >>tools.go
      go get "$module@$release"
      go mod tidy
    fi
    for package in "${missing[@]}"; do
      local started=$SECONDS
      go build -ldflags "$flags" -o "bin/${package##*/}.new" "$package"
      mv "bin/${package##*/}.new" "bin/${package##*/}"
      echo "built ${package##*/} $release in $((SECONDS - started)) s"
    done
  fi
  mkdir -p "$out/bin"
  for package in "${packages[@]}"; do
    program=${package##*/}
    # etcd's main package has the name of its major version.
    [[ $package == go.etcd.io/* ]] && program=etcd
    ln -sfn "$work/bin/${package##*/}" "$out/bin/$program"
  done
}


build k8s.io/kubernetes v$kubernetes cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
build go.etcd.io/etcd/server/v3 v3.6.8
build github.com/containerd/containerd/v2 v2.4.2 cmd/{containerd,containerd-shim-runc-v2,ctr}
build github.com/kubernetes-csi/external-provisioner/v6 v6.3.0 cmd/csi-provisioner
build github.com/kubernetes-csi/external-attacher/v4 v4.13.0 cmd/csi-attacher
build github.com/kubernetes-csi/external-resizer/v2 v2.3.0 cmd/csi-resizer
build github.com/kubernetes-csi/csi-test/v5 v5.6.0 cmd/csi-sanity
build github.com/rancher/local-path-provisioner v0.0.30
