"""TracingConfigs made of a spec, for the tests of the Kubernetes backend."""

from typing import Any

from farcall.tracingconfig import TracingConfig
from farcall_operator.context import Context

CONTEXT = Context(namespace="tracing")
BASE: dict[str, Any] = {"tier": "Hobby", "clusterCIDRs": ["10.0.0.0/8"]}


def make(spec: dict[str, Any]) -> TracingConfig:
    return TracingConfig.model_validate(
        {
            "apiVersion": "farcall.dev/v1alpha1",
            "kind": "TracingConfig",
            "metadata": {"name": "main"},
            "spec": spec,
        }
    )
