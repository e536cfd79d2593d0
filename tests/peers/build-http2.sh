#!/usr/bin/env bash
# Builds the peer of the HTTP/2 and gRPC tests from its Go modules, once per version of its sources, outside the tree. Prints its path.
# Cold: 60 s of CPU.
set -euo pipefail
cd "$(dirname "$0")/http2"
key=$(cat go.mod go.sum main.go | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/http2peer/$key
if [ ! -x "$folder/http2peer" ]; then
	command -v go >/dev/null || { echo "building the HTTP/2 peer needs Go 1.25 or newer on the PATH" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$folder/http2peer" ]; then
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -ldflags "-s -w" -o "$folder/http2peer.new" .
		mv "$folder/http2peer.new" "$folder/http2peer"
	fi
fi
echo "$folder/http2peer"
