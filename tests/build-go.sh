#!/usr/bin/env bash
# Builds a Go program that the tests need, once per version of its sources, outside the tree, and prints its path:
# `build-go.sh FOLDER [PACKAGE [FLAGS [TAGS]]]`. FOLDER holds go.mod and names the program; PACKAGE is one of its modules'
# when the folder has no program of its own; FLAGS go to the linker. Cold: 60 to 100 s of CPU for each, 270 s for promtool.
# FARCALL_BUILD=no builds nothing, and fails when the program is not there.
set -euo pipefail
cd "$1"
name=$(basename "$PWD")
key=$({ cat ./*.mod ./*.sum; find . -name '*.go' | sort | xargs -r cat; echo "${*:2}"; } | sha256sum | cut -c1-12)
folder=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/$name/$key
program=$folder/$name
if [ ! -x "$program" ]; then
	[ "${FARCALL_BUILD:-}" != no ] || { echo "$name is not built" >&2; exit 1; }
	needed=$(sed -n 's/^go //p' go.mod)
	command -v go >/dev/null || { echo "building $name needs Go $needed or newer on the PATH" >&2; exit 1; }
	mkdir -p "$folder"
	exec 9>"$folder/.lock"
	flock 9
	if [ ! -x "$program" ]; then
		echo "building $name from its Go modules (a minute or more, once)" >&2
		CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local \
			nice -n 5 go build -trimpath -tags "${4:-}" -ldflags "-s -w ${3:-}" -o "$program.new" "${2:-.}"
		mv "$program.new" "$program"
	fi
fi
echo "$program"
