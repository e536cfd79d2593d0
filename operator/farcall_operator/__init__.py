"""From a TracingConfig to what runs.

desired state (pure), rendered for Kubernetes or run as local processes.
"""
