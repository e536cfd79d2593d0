#!/usr/bin/env bash
# Fetches the servers that run on a JVM, by Maven and once per version of their recipe, into a folder outside the tree.
# Prints the folder of the one that is named (kafka, cassandra, mongodb, netty, grpc); names none: all, nothing printed.
# `--check` fetches nothing and fails when one is not there. Cold: 25 s on two cores, three minutes on busy ones; 140 MB stay.
set -euo pipefail
cd "$(dirname "$0")"
recipe=1  # counted up when what is done below changes
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
check=
[ "${1:-}" != --check ] || { check=yes; shift; }
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/servers

fetch() {  # NAME FOLDER
	command -v mvn >/dev/null || { echo "fetching $1 needs Maven: run \`make setup-test\`" >&2; exit 1; }
	echo "fetching $1 from Maven Central (once)" >&2
	# Maven's own repository is as large as the jars and of no use later.
	rm -rf "$2.new"
	mkdir -p "$2.new"
	if ! mvn -B -q -f "$1/pom.xml" -Dmaven.repo.local="$2.new/repository" "$plugin:copy-dependencies" \
		-DincludeScope=runtime -DoutputDirectory="$2.new/jars" >"$2.new/log" 2>&1; then
		cat "$2.new/log" >&2
		exit 1
	fi
	rm -rf "$2.new/repository"
	for source in "$1"/*.java; do
		[ -e "$source" ] || continue
		java -jar "$2.new"/jars/ecj-*.jar -17 -cp "$(printf '%s:' "$2.new"/jars/*.jar)" -d "$2.new/classes" "$source"
	done
	rm "$2.new/log"
	mv "$2.new" "$2"
}

mkdir -p "$cache"
for name in "${@:-kafka cassandra mongodb netty grpc}"; do
	for server in $name; do
		folder=$cache/$server-$({ echo "$recipe"; cat "$server"/*; } | sha256sum | cut -c1-12)
		if [ ! -d "$folder" ]; then
			[ -z "$check" ] || { echo "$server is not fetched: \`make servers\` does it" >&2; exit 1; }
			exec 9>"$cache/.lock"
			flock 9
			[ -d "$folder" ] || fetch "$server" "$folder"
			exec 9>&-
		fi
		[ $# -eq 0 ] || echo "$folder"
	done
done
