"""The alerts as a plain rules file and as a PrometheusRule. Their text is farcall_templates/install/alerts.yaml."""

from importlib import resources

import yaml

from farcall_operator.installing.objects import NAMESPACE
from farcall_operator.manifests import Manifest, render_manifests


def read_alerts() -> str:
    source = resources.files("farcall_templates") / "install" / "alerts.yaml"
    return source.read_text(encoding="utf-8")


def render_alerts() -> str:
    """Without the first line, which is about the source."""
    return read_alerts().split("\n", 1)[1]


def build_prometheus_rule() -> Manifest:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "farcall",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": "farcall"},
        },
        "spec": yaml.safe_load(read_alerts()),
    }


def render_prometheus_rule() -> str:
    return render_manifests([build_prometheus_rule()])
