#!/usr/bin/env bash
# A Docker daemon of our own for the images and the cluster: `docker.sh up` prints its address, `docker.sh down` ends it.
# Where DOCKER_HOST is set, that daemon is used and never stopped. A daemon that others run is left alone: ours is not
# started beside it, because two daemons share the bridge docker0 and the chains of iptables.
# What it keeps (layers of images, for the next time) is under the user's cache folder; all else goes with `down`.
set -euo pipefail
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}
data=$cache/docker
run=/run/farcall-docker
address=unix://$run/docker.sock

main() {
	case "${1:-}" in
	up) up ;;
	down) down ;;
	*) echo "usage: docker.sh up | down" >&2 && exit 2 ;;
	esac
}

up() {
	if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "$address" ]; then
		echo "$DOCKER_HOST"
		return
	fi
	mkdir -p "$run" "$data"
	exec 9>"$run/lock"
	flock 9
	if ! is_up; then start; fi
	echo "$address"
}

is_up() {
	docker --host "$address" version >/dev/null 2>&1
}

start() {
	refuse_where_it_cannot_run
	# A daemon that finds forwarding off switches it on, and then drops whatever others forward.
	mkdir -p "$run/sysctl"
	for name in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables; do
		if [ ! -e "$run/sysctl/$name" ]; then sysctl -n "$name" >"$run/sysctl/$name" 2>/dev/null || rm -f "$run/sysctl/$name"; fi
	done
	sysctl -qw net.ipv4.ip_forward=1
	write_runtime
	write_settings
	setsid nohup dockerd --config-file "$run/daemon.json" </dev/null >"$run/dockerd.log" 2>&1 9>&- &
	for _ in $(seq 600); do
		if is_up; then return; fi
		if ! kill -0 $! 2>/dev/null; then break; fi
		sleep 0.1
	done
	tail -n 20 "$run/dockerd.log" >&2
	echo "our Docker daemon did not start: its last lines are above" >&2
	exit 1
}

refuse_where_it_cannot_run() {
	if [ "$(id -u)" -ne 0 ]; then
		echo "starting a Docker daemon needs root; with one that you may use, set DOCKER_HOST" >&2
		exit 1
	fi
	if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
		echo "no dockerd or docker: Debian's package docker.io has both" >&2
		exit 1
	fi
	# A PID file there is of one of ours that was killed: what it left is ours.
	if [ ! -e "$run/docker.pid" ] && { [ -e /sys/class/net/docker0 ] || iptables -w -t nat -S DOCKER >/dev/null 2>&1; }; then
		echo "a Docker daemon runs on this machine: set DOCKER_HOST (unix:///var/run/docker.sock) to use it" >&2
		exit 1
	fi
}

# Debian's daemon gives privileged containers a fixed list of capabilities. It has SYS_RESOURCE, which runc refuses where
# the machine itself lacks it, and not the three that BPF programs need. Both are set right in what runc is given.
write_runtime() {
	runc=$(command -v runc)
	lacks_resource=$((0x$(awk '/^CapBnd/ {print $2}' /proc/self/status) >> 24 & 1 ? 0 : 1))
	cat >"$run/runtime" <<-END
		#!/bin/sh
		prev=
		for a in "\$@"; do
		  f=; case \$prev in --bundle|-b) f=\$a/config.json ;; --process|-p) f=\$a ;; esac; prev=\$a
		  [ -n "\$f" ] && [ -f "\$f" ] || continue
		  grep -q CAP_BPF "\$f" || sed -i 's/"CAP_SYS_RESOURCE"/"CAP_SYS_RESOURCE","CAP_PERFMON","CAP_BPF","CAP_CHECKPOINT_RESTORE"/g' "\$f"
		  [ $lacks_resource = 0 ] || sed -i 's/"CAP_SYS_RESOURCE",//g' "\$f"
		done
		exec $runc "\$@"
	END
	chmod 755 "$run/runtime"
}

# bridge none: every network of a container is made by name, or is the machine's.
write_settings() {
	cat >"$run/daemon.json" <<-END
		{
		  "data-root": "$data",
		  "exec-root": "$run/exec",
		  "pidfile": "$run/docker.pid",
		  "hosts": ["$address"],
		  "runtimes": {"farcall": {"path": "$run/runtime"}},
		  "default-runtime": "farcall",
		  "default-address-pools": [{"base": "10.201.0.0/16", "size": 24}],
		  "bridge": "none",
		  "storage-driver": "overlay2",
		  "log-driver": "json-file"
		}
	END
}

down() {
	[ -d "$run" ] || return 0
	exec 9>"$run/lock"
	flock 9
	if is_up; then
		docker --host "$address" network prune --force >/dev/null 2>&1 || true
		# Layers of a week ago serve no build of today.
		docker --host "$address" image prune --force --filter until=168h >/dev/null 2>&1 || true
	fi
	if [ -e "$run/docker.pid" ]; then
		pid=$(cat "$run/docker.pid")
		if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
			kill "$pid"
			while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
		fi
		remove_rules
	fi
	for name in "$run"/sysctl/*; do
		[ ! -e "$name" ] || sysctl -qw "$(basename "$name")=$(cat "$name")" || true
	done
	# The daemon leaves its own network namespace mounted, and the empty folder of its containers in each cgroup hierarchy.
	awk -v run="$run/" 'index($2, run) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
	rmdir /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker 2>/dev/null || true
	rm -rf "$run"
}

# Only ours can be there: it does not start where another daemon's are.
remove_rules() {
	for command in iptables ip6tables; do
		for table in nat filter; do
			$command -w -t $table -S 2>/dev/null | sed -n 's/^-A \(.* -j DOCKER.*\)$/-D \1/p' |
				while read -r rule; do echo "$rule" | xargs $command -w -t $table 2>/dev/null || true; done
			for chain in $($command -w -t $table -S 2>/dev/null | sed -n 's/^-N \(DOCKER.*\)$/\1/p'); do
				$command -w -t $table -F "$chain" && $command -w -t $table -X "$chain" || true
			done
		done
	done
}

main "$@"
