#!/usr/bin/env bash
# Runs one tier beside others: `run-tier.sh NAME COMMAND…`. Each line of it begins with the name, so that two can be read at once.
# `run-tier.sh --tell` says again how each of them ended, with the time it took, and which tests failed (the last lines are what is
# kept of a long run); `--forget` comes before the first.
#
# As root the command gets namespaces of its own, and so process IDs, mounts and a loopback of its own: an agent that a test starts
# traces the processes of its tier alone, no other tier takes a port of it, and nothing that it starts outlives it. `--with-net`
# before the name leaves it the machine's network, `--in-common` all.
set -euo pipefail
cd "$(dirname "$0")/.."
results=test-results/tiers
namespaces=(--pid --fork --kill-child --mount-proc --propagation slave --net)
first='ip link set lo up &&'

main() {
	case "${1:-}" in
	--tell) tell ;;
	--forget) rm -rf "$results" ;;
	--with-net) unset 'namespaces[-1]' && first= && shift && run "$@" ;;
	--in-common) namespaces=() && shift && run "$@" ;;
	*) run "$@" ;;
	esac
}

tell() {
	cat "$results"/*.end 2>/dev/null || return 0
	for end in $(grep -l ' FAILED ' "$results"/*.end); do
		grep -hE --max-count 10 '^(FAILED|ERROR) ' "${end%.end}.log" | cut -c -400 || true
	done
}

run() {
	name=$1
	shift
	mkdir -p "$results"
	rm -f "$results/$name".*
	begun=$SECONDS
	failed=0
	apart "$@" 2>&1 | tee "$results/$name.log" | sed --unbuffered "s/^/$name: /" || failed=$?
	took=$((SECONDS - begun))
	[ "$failed" -eq 0 ] && verdict=passed || verdict=FAILED
	end=$(tail -n 1 "$results/$name.log")
	printf '%-10s %s %3d:%02d  %s\n' "$name" "$verdict" $((took / 60)) $((took % 60)) "$end" >"$results/$name.end"
	exit "$failed"
}

# The shell is the first process in there, whose part it is to take leave of orphans.
apart() {
	if [ "$(id -u)" -eq 0 ] && [ ${#namespaces[@]} -gt 0 ]; then
		unshare "${namespaces[@]}" bash -c "$first"' "$@"; exit $?' tier "$@"
	else
		"$@"
	fi
}

main "$@"
