#!/usr/bin/env bash
# Builds the OpenTelemetry collector from its Go modules, once per version of its sources, outside the tree. Prints its path.
# Cold: 90 s of CPU.
set -euo pipefail
cd "$(dirname "$0")"
version=$(sed -n 's|.*collector/otelcol \(v[^ ]*\).*|\1|p' go.mod)
key=$(cat go.mod go.sum main.go | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/collector/$version-$key
if [ ! -x "$folder/otelcol" ]; then
	command -v go >/dev/null || { echo "building the OpenTelemetry collector needs Go 1.26 or newer on the PATH" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$folder/otelcol" ]; then
		echo "building the OpenTelemetry collector $version from its Go modules (about a minute, once)" >&2
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -ldflags "-s -w" -o "$folder/otelcol.new" .
		mv "$folder/otelcol.new" "$folder/otelcol"
	fi
fi
echo "$folder/otelcol"
