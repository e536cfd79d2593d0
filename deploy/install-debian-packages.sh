#!/usr/bin/env bash
# Installs the named Debian packages that are missing, and does nothing (in milliseconds) when none is.
# farcall starts its own redis-server: the one the package starts is not stopped, only never enabled by us.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep --quiet 'ok installed' || missing+=("$package")
done
# A Node.js from elsewhere than Debian serves as well as Debian's.
if command -v npm >/dev/null && command -v node >/dev/null; then
  kept=()
  for package in "${missing[@]+"${missing[@]}"}"; do
    case "$package" in nodejs | npm) ;; *) kept+=("$package") ;; esac
  done
  missing=("${kept[@]+"${kept[@]}"}")
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "missing Debian packages: ${missing[*]}" >&2
  echo "install them with: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A broker that nobody asked for, with a password that everybody knows, is not started.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\ncase "$1" in rabbitmq-server* | epmd*) exit 101 ;; esac\n' >"$policy"
  chmod 755 "$policy"
fi
log=$(mktemp)
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "apt could not install: ${missing[*]}" >&2
  exit 1
fi
rm -f "$log"
