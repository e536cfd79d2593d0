#!/usr/bin/env bash
# Builds Helm from its Go module and prints its path. `--check` builds nothing and fails when it is not there.
set -euo pipefail
cd "$(dirname "$0")"
version=$(sed -n 's|.*helm.sh/helm/v3 \(v[^ ]*\).*|\1|p' helm/go.mod)
# Without these it takes every cluster for Kubernetes 1.20 while it renders offline.
flags="-X helm.sh/helm/v3/internal/version.version=$version"
for package in chartutil lint/rules; do
	flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=34"
done
[ "${1:-}" != --check ] || export FARCALL_BUILD=no
exec ../build-go.sh helm helm.sh/helm/v3/cmd/helm "$flags"
