#!/usr/bin/env bash
# Builds the image of a kind node out of Debian's packages and Go modules, once per version of what goes into it, and
# prints its name. Needs root, debootstrap and DOCKER_HOST. FARCALL_NODE_IMAGE names another one instead, such as an
# ordinary kindest/node where a registry can be reached.
# Cold, without Kubernetes' own binary: two to four minutes.
set -euo pipefail
cd "$(dirname "$0")"
if [ -n "${FARCALL_NODE_IMAGE:-}" ]; then echo "$FARCALL_NODE_IMAGE" && exit; fi
cache=${FARCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farcall}
kubernetes=$(sed -n 's|^version=||p' build-kube.sh)
packages=systemd,systemd-sysv,dbus,iproute2,iptables,kmod,procps,util-linux,mount,hostname,containerd,runc,containernetworking-plugins,ca-certificates
root_recipe=1  # counted up when the root's packages change
root=$cache/node-root/bookworm-$root_recipe

main() {
	kube=$(./build-kube.sh)
	coredns=$(../build-go.sh coredns)
	key=$({ echo "$kube $coredns $root_recipe"; cat build-node.sh node/bin/* node/units/* node/manifests/* node/*.*; } | sha256sum | cut -c1-12)
	name=farcall-test/node:$kubernetes-$key
	mkdir -p "$cache/node-root"
	exec 9>"$cache/node-root/.lock"
	flock 9
	if ! docker image inspect "$name" >/dev/null 2>&1; then
		[ -d "$root" ] || make_root
		build_image "$name"
		drop_older "$name"
	fi
	echo "$name"
}

make_root() {
	echo "making the root of a node by debootstrap (one to two minutes, once)" >&2
	mkdir -p "$cache/bases/packages"
	if ! debootstrap --cache-dir="$cache/bases/packages" --variant=minbase --include="$packages" \
		bookworm "$root.new" ${DEBIAN_MIRROR:-} >"$cache/node-root/debootstrap.log" 2>&1; then
		unmount "$root.new"
		tail -n 20 "$cache/node-root/debootstrap.log" >&2
		exit 1
	fi
	unmount "$root.new"
	mv "$root.new" "$root"
}

unmount() {
	for folder in proc/sys/fs/binfmt_misc proc sys dev/pts dev; do umount "$1/$folder" 2>/dev/null || true; done
}

build_image() {
	echo "building the image of a node (half a minute, once)" >&2
	work=$(mktemp -d "$cache/node-root/work.XXXXXX")
	trap 'rm -rf --one-file-system "$work"' EXIT
	stage=$work/stage
	gcc -Os -static -s -o "$work/pause" node/pause.c
	python3 node/pack_images.py "$kube/kube" "$coredns" "$work/pause" "$root" "$work/images.tar"
	fill_stage
	preload
	tar -C "$stage" --numeric-owner -c . | docker import \
		-c 'ENV container=docker' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		-c 'ENTRYPOINT ["/kind/bin/boot","/sbin/init"]' - "$1" >/dev/null
	rm -rf --one-file-system "$work"
	trap - EXIT
}

fill_stage() {
	mkdir "$stage"
	tar -C "$root" --one-file-system -c --exclude=./var/cache/* --exclude=./var/lib/apt/lists/* --exclude=./usr/share/doc/* \
		--exclude=./usr/share/man/* --exclude=./usr/share/locale/* --exclude=./usr/share/info/* --exclude=./usr/share/zoneinfo/* \
		--exclude=./etc/hostname --exclude=./etc/resolv.conf --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* \
		--exclude=./usr/bin/containerd-stress . | tar -C "$stage" -x
	install -D -m 755 -t "$stage/kind/bin" node/bin/*
	install -D -m 644 -t "$stage/kind/manifests" node/manifests/*
	install -D -m 644 -t "$stage/etc/systemd/system" node/units/*
	install -D -m 644 node/containerd.toml "$stage/etc/containerd/config.toml"
	mkdir -p "$stage/etc/systemd/journald.conf.d" "$stage/etc/kubernetes/manifests" "$stage/opt/cni"
	printf '[Journal]\nReadKMsg=no\nStorage=volatile\n' >"$stage/etc/systemd/journald.conf.d/farcall.conf"
	echo "$kubernetes" >"$stage/kind/version"
	ln -sfn /usr/lib/cni "$stage/opt/cni/bin"
	ln -sf /lib/systemd/systemd "$stage/sbin/init"
	cp "$kube/kube" "$stage/usr/bin/kube"
	for program in kubeadm kubelet kubectl crictl; do ln -sf kube "$stage/usr/bin/$program"; done
	units="systemctl --root=$stage --quiet"
	$units set-default multi-user.target
	$units disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer 2>/dev/null || true
	$units mask getty.target console-getty.service systemd-udevd.service systemd-udev-trigger.service systemd-sysctl.service \
		systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-networkd.service \
		systemd-resolved.service systemd-timesyncd.service systemd-logind.service systemd-tmpfiles-setup-dev.service \
		dev-hugepages.mount systemd-firstboot.service systemd-update-utmp.service
	$units enable containerd.service kubelet.service node-net.service host-path-open.path
}

# A containerd of the machine's puts the images into the stage's store; nothing is unpacked, and nothing is mounted.
preload() {
	mkdir "$work/run"
	cat >"$work/containerd.toml" <<-END
		version = 2
		root = "$stage/var/lib/containerd"
		state = "$work/run/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		  address = "$work/run/socket"
	END
	containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 9>&- &
	preloader=$!
	for _ in $(seq 300); do
		if ctr --address "$work/run/socket" version >/dev/null 2>&1; then break; fi
		sleep 0.1
	done
	ctr --address "$work/run/socket" --namespace k8s.io images import --no-unpack "$work/images.tar" >"$work/import.log" 2>&1 || {
		cat "$work/import.log" "$work/containerd.log" >&2
		exit 1
	}
	kill "$preloader"
	wait "$preloader" || true
}

# Images of earlier versions are half a gigabyte each.
drop_older() {
	docker image ls --format '{{.Repository}}:{{.Tag}}' farcall-test/node | grep -vFx "$1" | xargs -r docker image rm >/dev/null || true
}

main
