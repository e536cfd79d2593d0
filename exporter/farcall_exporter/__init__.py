"""Receive, resolve, sides, link, sinks: exchanges become named spans. Never touches the kernel."""
