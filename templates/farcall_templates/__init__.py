"""Jinja2 text that other rooms render. Holds no logic."""
