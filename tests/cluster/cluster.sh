#!/usr/bin/env bash
# A Kubernetes cluster on this machine with farcall installed: `cluster.sh up` and `cluster.sh down`, each as often as one
# likes. `up` prints the path of its kubeconfig. kind makes it, in the Docker daemon of docker.sh.
#
# FARCALL_WORKERS     how many nodes beside the control plane (default 1)
# FARCALL_NODE_IMAGE  an ordinary kindest/node instead of the one that build-node.sh builds
# FARCALL_CLUSTER     the cluster's name (default farcall)
#
# Built once and kept in the user's cache folder: Kubernetes, CoreDNS, kind, the nodes' root and image, the images' layers.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}
cluster=${FARCALL_CLUSTER:-farcall}
workers=${FARCALL_WORKERS:-1}
kind_version=v0.33.0
state=/run/farcall-cluster/$cluster
kubeconfig=$state/kubeconfig
export KIND_EXPERIMENTAL_PROVIDER=docker

main() {
	case "${1:-}" in
	up) up ;;
	down) down ;;
	*) echo "usage: cluster.sh up | down" >&2 && exit 2 ;;
	esac
}

up() {
	machine=
	[ -e "$state/machine" ] || [ -n "${DOCKER_HOST:-}" ] || machine=$(tests/cluster/leftovers.sh list machine)
	mkdir -p "$state"
	exec 8>"$state/lock"
	flock 8
	owned=${DOCKER_HOST:+no}
	DOCKER_HOST=$(tests/cluster/docker.sh up 8>&-)
	export DOCKER_HOST
	if [ ! -e "$state/machine" ] && [ "$owned" != no ]; then
		echo "$machine" >"$state/machine"
		tests/cluster/leftovers.sh list docker >"$state/docker"
	fi
	kind=$(install_kind)
	build_programs
	mapfile -t images < <(FARCALL_REGISTRY=farcall FARCALL_REVISION=local deploy/build-images.sh 8>&- && tests/cluster/build-workload.sh 8>&-)
	[ ${#images[@]} -ge 7 ] || exit 1
	created=
	"$kind" get clusters 2>/dev/null | grep -qFx "$cluster" || created=yes
	[ -z "$created" ] || rm -rf "$state/loaded"
	find_new "${images[@]}"
	save 8>&- &
	saving=$!
	wait "$programs"
	[ -z "$created" ] || create
	wait "$saving"
	load
	install_farcall
	echo "$kubeconfig"
}

install_kind() {
	folder=$cache/kind/$kind_version
	if [ ! -x "$folder/kind" ]; then
		command -v go >/dev/null || { echo "building kind needs Go 1.24 or newer on the PATH" >&2; exit 1; }
		GOBIN=$folder GOFLAGS= GOTOOLCHAIN=local go install "sigs.k8s.io/kind@$kind_version" >&2
	fi
	echo "$folder/kind"
}

# What Go compiles is needed by the nodes alone: the images are fetched and unpacked meanwhile.
build_programs() {
	build='tests/cluster/build-kube.sh'
	[ -n "${FARCALL_NODE_IMAGE:-}" ] || build+=' && tests/build-go.sh tests/cluster/coredns'
	setsid bash -c "$build" >/dev/null 8>&- &
	programs=$!
	trap 'kill -- "-$programs" 2>/dev/null || true' EXIT
}

create() {
	node=$(tests/cluster/build-node.sh 8>&-)
	cp tests/cluster/kind.yaml "$state/kind.yaml"
	for _ in $(seq 2 "$workers"); do echo "  - role: worker" >>"$state/kind.yaml"; done
	echo "making the cluster $cluster of $node" >&2
	if ! "$kind" create cluster --name "$cluster" --config "$state/kind.yaml" --image "$node" \
		--kubeconfig "$kubeconfig" --wait 180s --retain >"$state/create.log" 2>&1 8>&-; then
		cat "$state/create.log" >&2
		"$kind" export logs --name "$cluster" "$state/logs" >/dev/null 2>&1 || true
		echo "kind could not make the cluster: its lines are above, the nodes' logs in $state/logs" >&2
		exit 1
	fi
}

find_new() {
	mkdir -p "$state/loaded"
	new=()
	for image in "$@"; do
		id=$(docker image inspect --format '{{.Id}}' "$image")
		mark=$state/loaded/${image//[\/:]/-}
		if [ "$(cat "$mark" 2>/dev/null)" != "$id" ]; then
			new+=("$image")
			echo "$id" >"$mark.new"
		fi
	done
}

# An archive is loaded in a third of the time that `kind load docker-image` takes. It is written while the nodes start.
save() {
	[ ${#new[@]} -eq 0 ] || docker save --output "$state/images.tar" "${new[@]}"
}

load() {
	[ ${#new[@]} -gt 0 ] || return 0
	"$kind" load image-archive "$state/images.tar" --name "$cluster" >&2
	rm -f "$state/images.tar"
	for mark in "$state"/loaded/*.new; do mv "$mark" "${mark%.new}"; done
}

# The tags stay the same from one build to the next, so pods that run an older build are started anew.
install_farcall() {
	kubectl="$(tests/cluster/build-kube.sh)/kubectl --kubeconfig $kubeconfig"
	$kubectl apply --server-side --force-conflicts -f deploy/install.yaml >&2
	[ -n "$created" ] || [ ${#new[@]} -eq 0 ] || $kubectl -n farcall delete pods --all --wait=false >&2
	$kubectl -n farcall rollout status deployment/farcall-operator --timeout 180s >&2
}

down() {
	before=$(mktemp -d)
	trap 'rm -rf "$before"' EXIT
	cp "$state/machine" "$state/docker" "$before" 2>/dev/null || true
	failed=0
	if [ -d /run/farcall-docker ] || [ -n "${DOCKER_HOST:-}" ]; then
		DOCKER_HOST=$(tests/cluster/docker.sh up)
		export DOCKER_HOST
		"$(install_kind)" delete cluster --name "$cluster" --kubeconfig "$kubeconfig" >&2 || true
		# kind never removes its network; in a daemon of our own nobody else uses it.
		[ ! -d /run/farcall-docker ] || docker network rm kind >/dev/null 2>&1 || true
		[ ! -e "$before/docker" ] || tests/cluster/leftovers.sh check docker "$before/docker" || remove_containers
	fi
	rm -rf "$state"
	rmdir /run/farcall-cluster 2>/dev/null || true
	tests/cluster/docker.sh down
	[ ! -e "$before/machine" ] || tests/cluster/leftovers.sh check machine "$before/machine" || failed=1
	exit "$failed"
}

# Those that tests made beside the cluster and did not remove, as when they were killed.
remove_containers() {
	failed=1
	docker ps --all --quiet --filter network=kind | xargs -r docker rm --force >/dev/null
	docker network rm kind >/dev/null 2>&1 || true
}

main "$@"
