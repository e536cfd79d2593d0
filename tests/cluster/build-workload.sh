#!/usr/bin/env bash
# Pulls the image of Redis, and builds those whose pods call each other in the tests: Python and Redis, and Python with
# the OpenTelemetry SDK of the lock. What runs in them is mounted. Prints the three names.
# Where no registry answers, Redis comes from Debian under the name that farcall asks for; it is never pushed.
set -euo pipefail
cd "$(dirname "$0")/../.."
redis=$(sed -n 's/^.*"\(redis:[0-9.]*-bookworm\)".*$/\1/p' operator/farcall_operator/*.py | head -n 1)
workload=farcall-test/workload:1
instrumented=farcall-test/instrumented:1

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
options=()
python=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
if ! docker image inspect "$python" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$python" >/dev/null 2>&1; then
	read -ra bases < <(deploy/build-bases.sh)
	python=$(printf '%s\n' "${bases[@]}" | sed -n 's/^PYTHON=//p')
	options=(--network host)
	export DOCKER_BUILDKIT=0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
docker build "${options[@]}" --tag "$instrumented" --file - . >"$log" 2>&1 <<-END || { tail -n 30 "$log" >&2; exit 1; }
	FROM $python AS picked
	COPY pyproject.toml requirements.lock /src/
	COPY deploy/pick_requirements.py /src/deploy/
	RUN python /src/deploy/pick_requirements.py demo >/requirements.txt
	FROM $python
	COPY --from=picked /requirements.txt /requirements.txt
	RUN python -m venv /opt/app && /opt/app/bin/pip install --no-cache-dir --quiet --require-hashes -r /requirements.txt
	ENV PATH=/opt/app/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
END
echo "$redis"
echo "$workload"
echo "$instrumented"
