#!/usr/bin/env bash
# Builds Prometheus' promtool for the tests of the alerts, and prints its path. Left out are Prometheus' ways to discover what
# it scrapes, of which a rule knows nothing: a third of the program.
set -euo pipefail
cd "$(dirname "$0")"
exec ./build-go.sh promtool github.com/prometheus/prometheus/cmd/promtool "" remove_all_sd
