#!/usr/bin/env bash
# Builds CoreDNS for the cluster's nodes from its Go module, once per version of its sources, outside the tree. Prints its path.
# Cold: 100 s of CPU, one to two minutes.
set -euo pipefail
cd "$(dirname "$0")/coredns"
version=$(sed -n 's|.*coredns/coredns \(v[^ ]*\).*|\1|p' go.mod)
key=$(cat go.mod go.sum main.go | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/coredns/$version-$key
if [ ! -x "$folder/coredns" ]; then
	command -v go >/dev/null || { echo "building CoreDNS needs Go 1.24 or newer on the PATH" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$folder/coredns" ]; then
		echo "building CoreDNS $version from its Go module (one to two minutes, once)" >&2
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -ldflags "-s -w" -o "$folder/coredns.new" .
		mv "$folder/coredns.new" "$folder/coredns"
	fi
fi
echo "$folder/coredns"
