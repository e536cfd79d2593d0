#!/usr/bin/env bash
# Removes the network namespaces that a killed demo left, and their files in /etc/netns. While a demo runs it refuses.
# Argument: what the names begin with; every demo's when left out.
set -euo pipefail

prefix=${1:-fcdemo-}
left=$(ip netns list 2>/dev/null | sed -n "s/^\($prefix[^ ]*\).*/\1/p")
for namespace in $left; do
	if [ -n "$(ip netns pids "$namespace")" ]; then
		echo "a demo runs ($namespace): stop its farcall with Ctrl-C first" >&2
		exit 1
	fi
done
for namespace in $left; do
	ip netns del "$namespace"
done
rm -rf /etc/netns/"$prefix"*
rmdir --ignore-fail-on-non-empty /etc/netns 2>/dev/null || true
