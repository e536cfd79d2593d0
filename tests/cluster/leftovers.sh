#!/usr/bin/env bash
# What a cluster may leave behind, one thing a line: `leftovers.sh list machine` what it and our Docker daemon may leave on
# this machine, `leftovers.sh list docker` what it may leave in that daemon, while it runs.
# `leftovers.sh check WHAT FILE` fails and names them when some are there that FILE does not list.
# Each is told by a mark of ours, because other people's interfaces and processes come and go meanwhile.
set -euo pipefail
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}
socket=/run/farcall-docker/docker.sock
ours="(/run/farcall-docker/|/run/farcall-cluster/|$cache/docker/)"
in_containers='/docker/|/kubelet/|/kubepods'
looks=60 # a second apart: the kernel takes some things away a while after their last process

main() {
	case "${1:-} ${2:-}" in
	"list machine" | "list docker") "list_$2" | sort -u || true ;;
	"check machine" | "check docker") check "$2" "$3" ;;
	*) echo "usage: leftovers.sh list machine|docker | check machine|docker FILE" >&2 && exit 2 ;;
	esac
}

check() {
	[ "$1" = machine ] || looks=1
	for _ in $(seq "$looks"); do
		left=$("list_$1" | sort -u | comm -13 <(sort -u "$2") - || true)
		[ -n "$left" ] || return 0
		sleep 1
	done
	echo "left in the $1:" >&2
	echo "$left" >&2
	exit 1
}

list_docker() {
	docker --host "unix://$socket" ps --all --format 'container {{.Names}}'
	docker --host "unix://$socket" volume ls --format 'volume {{.Name}}'
	docker --host "unix://$socket" network ls --filter type=custom --format 'network {{.Name}}'
}

list_machine() {
	# As Docker names them, and in the pool of docker.sh.
	ip -brief link | awk '{sub(/@.*/, "", $1); print "interface " $1}' | grep -E ' (docker0|br-[0-9a-f]{12}|veth[0-9a-f]{7})$'
	ip -brief address | awk '/ 10\.201\./ {print "address " $1 " " $3}'
	ip route show table all | awk '/(^| )10\.201\./ {print "route " $0}'
	for command in iptables ip6tables; do
		for table in raw mangle nat filter; do
			$command -w -t $table -S 2>/dev/null | grep -E 'DOCKER|KUBE|br-[0-9a-f]{12}|10\.201\.' | sed "s/^/$command -t $table /"
		done
	done
	# While our daemon runs, as after `make images`, it is what docker.sh will set it back to.
	echo "setting net.ipv4.ip_forward = $(cat /run/farcall-docker/sysctl/net.ipv4.ip_forward 2>/dev/null || sysctl -n net.ipv4.ip_forward)"
	awk -v ours="^$ours" '$5 ~ ours {print "mount " $5}' /proc/self/mountinfo
	for folder in /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker /run/farcall-docker /run/farcall-cluster; do
		[ ! -e "$folder" ] || echo "folder $folder"
	done
	list_processes
}

# Ours by a path of ours among its words, or in a container, unless we are in one ourselves.
list_processes() {
	! grep -qE "$in_containers" /proc/self/cgroup || in_containers='^$'
	for process in /proc/[0-9]*; do
		words=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline") || continue
		if [[ " $words" =~ [\ =]$ours ]] || grep -qE "$in_containers" "$process/cgroup" 2>/dev/null; then
			echo "process ${process#/proc/} ${words:0:120}"
		fi
	done 2>/dev/null
}

main "$@"
