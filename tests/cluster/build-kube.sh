#!/usr/bin/env bash
# Builds the Kubernetes binary of tests/cluster/kube, once per version of its sources, outside the tree. Prints its folder.
# Cold: 6 to 13 minutes on two cores, 4.6 GiB of memory. `--check` builds nothing and fails when it is not there.
set -euo pipefail
cd "$(dirname "$0")/kube"
version=v1.34.4
recipe=1  # counted up when the flags below change what is built
key=$({ echo "$recipe"; cat go.mod go.sum *.go; } | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/kube/$version-$key
programs=(crictl etcd kubeadm kubectl kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy)
if [ ! -x "$folder/kube" ]; then
	[ "${1:-}" != --check ] || { echo "the Kubernetes binary is not built: \`make kube\` does it" >&2; exit 1; }
	command -v go >/dev/null || { echo "building Kubernetes needs Go 1.24 or newer on the PATH" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$folder/kube" ]; then
		echo "building Kubernetes $version from its Go modules (6 to 13 minutes, once)" >&2
		package=k8s.io/component-base/version
		flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean"
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -ldflags "$flags" -o "$folder/kube.new" .
		for program in "${programs[@]}"; do ln -sf kube "$folder/$program"; done
		mv "$folder/kube.new" "$folder/kube"
	fi
fi
echo "$folder"
