#!/usr/bin/env bash
# Builds Helm from its Go module, once per version of its sources, outside the tree. Prints its path.
# Cold: 90 s of CPU, one to four minutes. `--check` builds nothing and fails when it is not there.
set -euo pipefail
cd "$(dirname "$0")/helm"
version=$(sed -n 's|.*helm.sh/helm/v3 \(v[^ ]*\).*|\1|p' go.mod)
key=$(cat go.mod go.sum ../build-helm.sh | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/helm/$version-$key
if [ ! -x "$folder/helm" ]; then
	[ "${1:-}" != --check ] || { echo "Helm is not built: \`make kube\` does it" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$folder/helm" ]; then
		echo "building Helm $version from its Go module (one to four minutes, once)" >&2
		# Without these it takes every cluster for Kubernetes 1.20 while it renders offline.
		flags="-s -w -X helm.sh/helm/v3/internal/version.version=$version"
		for package in chartutil lint/rules; do
			flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=34"
		done
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -ldflags "$flags" -o "$folder/helm.new" helm.sh/helm/v3/cmd/helm
		mv "$folder/helm.new" "$folder/helm"
	fi
fi
echo "$folder/helm"
