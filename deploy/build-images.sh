#!/usr/bin/env bash
# Builds the images of farcall: `build-images.sh [IMAGE…]`, all of them when none is named. Prints their names.
# The Dockerfile's base images are pulled where a registry answers, and made of Debian's packages where none does.
# dist/sbom/IMAGE.cdx.json says what is in each: Debian's and Python's packages (CycloneDX).
# FARCALL_REVISION is written into a label, the commit when unset. FARCALL_REGISTRY is written before the names (default: farcall); DOCKER_HOST says which daemon builds.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
registry=${FARCALL_REGISTRY:-farcall}
images=("$@")
[ ${#images[@]} -gt 0 ] || images=(probes exporter console operator)

# An image whose command cannot even be asked for help lacks something.
check() {
	commands=("$1")
	case $1 in probes) commands=(agent doctor) ;; exporter) commands=(exporter store) ;; esac
	for command in "${commands[@]}"; do
		if ! docker run --rm --network none --read-only "$registry/$1:$version" "$command" --help >"$log" 2>&1; then
			tail -n 20 "$log" >&2
			echo "\`farcall $command --help\` fails in the image $1: its lines are above" >&2
			exit 1
		fi
	done
}

# What is in it, for whoever has to answer for what runs in their cluster.
write_bill() {
	mkdir -p dist/sbom
	docker run --rm --interactive --network none --read-only --entrypoint python "$registry/$1:$version" \
		- "$registry/$1" "$version" <deploy/list_parts.py >"dist/sbom/$1.cdx.json"
}

options=()
python=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
if ! docker image inspect "$python" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$python" >/dev/null 2>&1; then
	echo "no registry answers: the base images are made of Debian's packages" >&2
	read -ra options < <(deploy/build-bases.sh)
	[ ${#options[@]} -gt 0 ] || exit 1
	# A daemon without a bridge of its own gives a build no other network.
	options+=(--network host)
	export DOCKER_BUILDKIT=0
fi
commit=${FARCALL_REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
options+=(--label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$commit" \
	--label "org.opencontainers.image.licenses=Apache-2.0")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for image in "${images[@]}"; do
	if ! docker build "${options[@]}" --label "org.opencontainers.image.title=farcall $image" --target "$image" --tag "$registry/$image:$version" . >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		echo "the image $image could not be built: the last lines of its build are above" >&2
		exit 1
	fi
	# One that was looked at before, and is the same, is not looked at again.
	id=$(docker image inspect --format '{{.Id}}' "$registry/$image:$version")
	if [ "$(cat "dist/sbom/$image.id" 2>/dev/null)" != "$id" ]; then
		check "$image"
		write_bill "$image"
		echo "$id" >"dist/sbom/$image.id"
	fi
	echo "$registry/$image:$version"
done
