#!/usr/bin/env bash
# Builds the image with servers of many protocols and the one with their clients, once per version of what goes into them,
# and prints their names: PostgreSQL, MariaDB, memcached, a JVM with Kafka, Cassandra and a server of MongoDB's protocol,
# HTTP/2 and gRPC in Go; psycopg, MariaDB's client, pymongo, kafka-python, Cassandra's driver. Needs DOCKER_HOST.
# What runs in them is mounted. Cold, with the servers of `make servers`: one to two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}
kafka=$(tests/jvm/build-servers.sh kafka)
cassandra=$(tests/jvm/build-servers.sh cassandra)
mongodb=$(tests/jvm/build-servers.sh mongodb)
peer=$(tests/build-go.sh tests/peers/http2)
python=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
options=()
drivers="psycopg psycopg-binary pymongo kafka-python cassandra-driver"

main() {
	mkdir -p "$cache/bases"
	exec 9>"$cache/bases/.protocols-lock"
	flock 9
	if ! docker image inspect "$python" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$python" >/dev/null 2>&1; then
		read -ra bases < <(deploy/build-bases.sh 9>&-)
		python=$(printf '%s\n' "${bases[@]}" | sed -n 's/^PYTHON=//p')
		options=(--network host)
		export DOCKER_BUILDKIT=0
	fi
	requirements=$(python3 deploy/pick_requirements.py $drivers)
	key=$(echo "$python $kafka $cassandra $mongodb $peer $requirements" | cat - tests/cluster/build-protocols.sh | sha256sum | cut -c1-12)
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	build_image servers
	build_image clients
}

build_image() {
	local name=farcall-test/$1:$key
	if ! docker image inspect "$name" >/dev/null 2>&1; then
		echo "building the image of $1 of many protocols (a minute, once)" >&2
		mkdir "$work/$1"
		"fill_$1" "$work/$1"
		if ! docker build "${options[@]}" --tag "$name" "$work/$1" >"$work/log" 2>&1; then
			tail -n 30 "$work/log" >&2
			exit 1
		fi
		docker image ls --format '{{.Repository}}:{{.Tag}}' "farcall-test/$1" | grep -vFx "$name" | xargs -r docker image rm >/dev/null || true
	fi
	echo "$name"
}

# PostgreSQL's compiler of queries and the documentation are half of what Debian installs.
fill_servers() {
	for folder in "$kafka" "$cassandra" "$mongodb"; do
		folder_name=$(basename "$folder")
		cp -r "$folder" "$1/${folder_name%-*}"
	done
	cp "$peer" "$1/http2peer"
	cat >"$1/Dockerfile" <<-END
		FROM $python
		RUN mkdir /etc/postgresql-common && echo create_main_cluster=false >/etc/postgresql-common/createcluster.conf \
		    && apt-get update && apt-get install -y --no-install-recommends \
		        postgresql mariadb-server-core mariadb-client-core memcached default-jre-headless \
		    && rm -rf /var/lib/apt/lists/* /usr/lib/*/libLLVM* /usr/lib/llvm* /usr/lib/postgresql/*/lib/bitcode \
		    && useradd --uid 999 --no-create-home farcall-test
		COPY . /opt/servers
	END
}

fill_clients() {
	echo "$requirements" >"$1/requirements.txt"
	cp "$peer" "$1/http2peer"
	cat >"$1/Dockerfile" <<-END
		FROM $python
		RUN apt-get update && apt-get install -y --no-install-recommends mariadb-client-core && rm -rf /var/lib/apt/lists/* \
		    && useradd --uid 999 --no-create-home farcall-test
		COPY requirements.txt /requirements.txt
		RUN python3 -m venv /opt/app && /opt/app/bin/pip install --no-cache-dir --quiet --require-hashes -r /requirements.txt
		COPY http2peer /usr/local/bin/
		ENV PATH=/opt/app/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
	END
}

main
