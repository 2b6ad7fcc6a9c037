#!/usr/bin/env bash
# Builds the images that the test cluster runs, as OCI archives in TOOLS/images, without any image registry:
#   build.sh TOOLS       TOOLS is what cluster/build.sh made.
# The one under test comes from the project's Dockerfile; what that starts FROM is made here, of Debian packages and the
# project's own Node. The rest are single programs. Needs root, buildah, mmdebstrap, npm and busybox-static.
set -euo pipefail
tools=$(realpath "${1:?usage: build.sh TOOLS}")
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
images=$tools/images
version=$(node -p "require('$project/package.json').version")
work=$(mktemp -d)
mkdir -p "$images" "$tools/storage"

# A storage of its own: nothing is left in the machine's. It keeps the layers that the image's next version begins with, and is
# begun anew when that is with other packages.
begins=$(cat "$project"/{package-lock.json,node_modules/node/package.json} | sha256sum | cut -c1-16)
storage=$tools/storage/$begins
store() { command buildah --root "$storage" --runroot "$work/run" --storage-driver overlay "$@"; }
# A build that fails leaves its container, mounted.
trap 'store rm --all &>/dev/null || true; rm -rf "$work"' EXIT

# export_image CONTAINER NAME
export_image() {
  store commit --quiet --rm "$1" "$2" >/dev/null
  save "$2"
}

save() { # NAME
  local file=${1//[\/:]/_}.tar
  store push --quiet "$1" "oci-archive:$work/$file:$1"
  mv "$work/$file" "$images/$file"
  echo "image $1"
}

# program_image NAME FILE…: files in /bin, the first of them is what runs.
program_image() {
  local name=$1 container
  shift
  [[ ! -e $images/${name//[\/:]/_}.tar ]] || return 0
  container=$(store from scratch)
  store add --quiet "$container" "$@" /bin/ >/dev/null
  store config --entrypoint "[\"/bin/$(basename "$1")\"]" "$container"
  export_image "$container" "$name"
}

busybox_image() { # NAME COMMAND
  local container
  [[ ! -e $images/${1//[\/:]/_}.tar ]] || return 0
  container=$(store from scratch)
  mkdir -p "$work/busybox/bin" "$work/busybox/tmp"
  cp /bin/busybox "$work/busybox/bin/"
  /bin/busybox --list | grep -vx busybox | while read -r applet; do ln -sfn busybox "$work/busybox/bin/$applet"; done
  store add --quiet "$container" "$work/busybox" / >/dev/null
  store config --env PATH=/bin --cmd "$2" "$container"
  export_image "$container" "$1"
}

# What the Dockerfile calls node:24-slim.
node_image() {
  local root=$tools/debian-bookworm.tar container
  store inspect --type image docker.io/library/node:24-slim &>/dev/null && return
  [[ -e $root ]] || { mmdebstrap --quiet --variant=minbase bookworm "$work/debian.tar" && mv "$work/debian.tar" "$root"; }
  mkdir -p "$work/node/bin" "$work/node/lib/node_modules"
  cp "$project/node_modules/node/bin/node" "$work/node/bin/"
  (cd "$work" && npm pack --silent npm@11 >/dev/null && tar -xzf npm-11*.tgz && mv package node/lib/node_modules/npm)
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/node/bin/npm"
  container=$(store from scratch)
  store add --quiet "$container" "$root" / >/dev/null
  store add --quiet "$container" "$work/node" /usr/local >/dev/null
  store config --env PATH=/usr/local/bin:/usr/bin:/bin "$container"
  store commit --quiet --rm "$container" docker.io/library/node:24-slim >/dev/null
}

# How this machine reaches the npm registry is how the build does; what was installed here is in npm's cache, and is not asked for.
npm_settings() {
  local key value
  echo prefer-offline=true
  for key in registry proxy https-proxy; do
    value=$(npm config get "$key" 2>/dev/null)
    [[ $value == null || -z $value ]] || echo "$key=$value"
  done
}

# Whom npm trusts here: Node's own authorities and those that it is told of, or a file in place of them.
npm_certificates() {
  local file
  file=$(npm config get cafile 2>/dev/null)
  [[ $file == null || -z $file ]] || { cat "$file" && return; }
  node -p 'require("tls").rootCertificates.join("\n")'
  [[ -z ${NODE_EXTRA_CA_CERTS:-} ]] || cat "$NODE_EXTRA_CA_CERTS"
}

union_image() {
  local home=/root # in the image
  npm_settings >"$work/npmrc"
  echo "cafile=$home/certificates" >>"$work/npmrc"
  npm_certificates >"$work/certificates"
  local -a volumes=(--volume "$work/npmrc:$home/.npmrc:ro" --volume "$work/certificates:$home/certificates:ro")
  volumes+=(--volume "$(npm config get cache 2>/dev/null):$home/.npm")
  store bud --quiet --layers --isolation chroot --pull=never --network=host "${volumes[@]}" \
    --tag "docker.io/library/union-csi:$version" "$project" >/dev/null
  save "docker.io/library/union-csi:$version"
}

# What the image is made of: it is built anew when that is not what it was.
inputs=$(cd "$project" && {
  echo "$begins"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --create \
    .dockerignore Dockerfile LICENSE bin deploy fuse package*.json scripts src tsconfig*.json
} | sha256sum)
if [[ ! -e $images/docker.io_library_union-csi_$version.tar || $inputs != "$(cat "$images/inputs" 2>/dev/null)" ]]; then
  find "$tools/storage" -mindepth 1 -maxdepth 1 ! -name "$begins" -exec rm -rf {} +
  node_image
  union_image
  echo "$inputs" >"$images/inputs"
fi
busybox_image localhost/pause:1 'sleep 2147483647'
busybox_image localhost/busybox:1 sh
# As the examples name it.
busybox_image docker.io/library/busybox:1.37 sh
for sidecar in provisioner:v6.3.0 attacher:v4.13.0 resizer:v2.3.0; do
  program_image "registry.k8s.io/sig-storage/csi-$sidecar" "$tools/bin/csi-${sidecar%:*}"
done
