#!/usr/bin/env bash
# Makes the images that the Dockerfile starts from out of Debian's packages, for where no image registry can be reached:
# build-bases.sh prints the --build-arg options for `docker build`. Needs root, debootstrap, and a Docker daemon.
# DEBIAN_MIRROR: from where, debootstrap's own choice when unset.
# They trust the certificate authorities that this machine trusts. The root is kept in the user's cache folder; made anew of
# the same packages it is the same, byte for byte.
set -euo pipefail
cd "$(dirname "$0")"
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}/bases
suite=bookworm
authorities=/etc/ssl/certs/ca-certificates.crt
recipe=2  # counted up when what is made changes
SOURCE_DATE_EPOCH=$(sed -n 's/^ARG SOURCE_DATE_EPOCH=//p' ../Dockerfile)
export SOURCE_DATE_EPOCH # also the day on which /etc/shadow says that passwords were changed
key=$({ echo "$recipe"; cat "$authorities"; } | sha256sum | cut -c1-12)
base=farcall-base/debian:$suite-$key
node=farcall-base/node:$suite-$key

main() {
	mkdir -p "$cache"
	exec 9>"$cache/.lock"
	flock 9
	docker image inspect "$base" >/dev/null 2>&1 || import_base
	docker image inspect "$node" >/dev/null 2>&1 || build_node
	echo "--build-arg DEBIAN=$base --build-arg PYTHON=$base --build-arg NODE=$node"
}

import_base() {
	[ -e "$cache/$suite-$key.tar" ] || make_root
	docker import \
		--change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		--change "ENV PIP_CERT=$authorities" --change "ENV NODE_EXTRA_CA_CERTS=$authorities" \
		"$cache/$suite-$key.tar" "$base" >/dev/null
}

make_root() {
	command -v debootstrap >/dev/null || { echo "no debootstrap: it is a Debian package" >&2; exit 1; }
	echo "making a Debian root by debootstrap (about a minute, once)" >&2
	root=$(mktemp -d "$cache/root.XXXXXX")
	trap 'drop "$root"' EXIT
	mkdir -p "$cache/packages"
	if ! debootstrap --cache-dir="$cache/packages" --variant=minbase --include=ca-certificates,python3-venv,python-is-python3 \
		"$suite" "$root" ${DEBIAN_MIRROR:-} >"$cache/debootstrap.log" 2>&1; then
		tail -n 20 "$cache/debootstrap.log" >&2
		exit 1
	fi
	cp "$authorities" "$root$authorities"
	printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian >"$root/etc/dpkg/dpkg.cfg.d/farcall"
	echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };' >"$root/etc/apt/apt.conf.d/farcall"
	rm -rf "$root"/var/cache/{apt,ldconfig}/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/etc/hostname "$root"/etc/resolv.conf
	unmount "$root"
	rm -rf --one-file-system "$root"/usr/share/{doc,man,locale,info,lintian} "$root"/dev "$root"/proc "$root"/sys
	find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
	mkdir "$root"/{dev,proc,sys}
	tar -C "$root" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner -cf "$cache/$suite-$key.tar.new" .
	mv "$cache/$suite-$key.tar.new" "$cache/$suite-$key.tar"
	drop "$root"
	trap - EXIT
}

# What a debootstrap that failed leaves mounted must not be deleted through.
unmount() {
	for folder in proc/sys/fs/binfmt_misc proc sys dev/pts dev; do umount "$1/$folder" 2>/dev/null || true; done
}

drop() {
	unmount "$1"
	rm -rf --one-file-system "$1"
}

build_node() {
	echo "adding Node.js for the stage that bundles the console's scripts (two minutes, once)" >&2
	DOCKER_BUILDKIT=0 docker build --quiet --network host --tag "$node" - >/dev/null <<-END
		FROM $base
		RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
	END
}

main
