"""The piece of Argo CD's own ConfigMap that holds the health check, made of farcall_templates/install/health.lua. Pure."""

from importlib import resources

from farcall_operator.manifests import Manifest, render_manifests

KEY = "resource.customizations.health.farcall.dev_TracingConfig"


def read_health_check() -> str:
    source = resources.files("farcall_templates") / "install" / "health.lua"
    return source.read_text(encoding="utf-8")


def build_config_map() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-cm",
            "namespace": "argocd",
            "labels": {
                "app.kubernetes.io/name": "argocd-cm",
                "app.kubernetes.io/part-of": "argocd",
            },
        },
        "data": {KEY: read_health_check()},
    }


def render_config_map() -> str:
    return render_manifests([build_config_map()])
