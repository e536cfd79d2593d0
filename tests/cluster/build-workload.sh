#!/usr/bin/env bash
# Pulls the image of Redis, and builds the one whose pods call each other in the tests. Prints both names.
# Where no registry answers, Redis comes from Debian under the name that farcall asks for; it is never pushed.
set -euo pipefail
cd "$(dirname "$0")/../.."
redis=$(sed -n 's/^.*"\(redis:[0-9.]*-bookworm\)".*$/\1/p' operator/farcall_operator/*.py | head -n 1)
workload=farcall-test/workload:1

if ! docker image inspect "$redis" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$redis" >/dev/null 2>&1; then
	read -ra bases < <(deploy/build-bases.sh)
	debian=$(printf '%s\n' "${bases[@]}" | sed -n 's/^DEBIAN=//p')
	DOCKER_BUILDKIT=0 docker build --quiet --network host --tag "$redis" - >/dev/null <<-END
		FROM $debian
		LABEL farcall.dev/note="Debian's Redis, for tests without a registry"
		RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
		USER 999:999
		CMD ["redis-server"]
	END
fi
# Python and Redis are all that the calls need.
python=$(docker run --rm --network none --entrypoint sh "$redis" -c 'command -v python3 || true')
if [ -n "$python" ]; then
	docker tag "$redis" "$workload"
else
	printf 'FROM %s\nRUN apt-get update && apt-get install -y --no-install-recommends python3\n' "$redis" |
		docker build --quiet --tag "$workload" - >/dev/null
fi
echo "$redis"
echo "$workload"
