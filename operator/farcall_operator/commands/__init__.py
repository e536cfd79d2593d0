"""The commands of a person around TracingConfigs: validate, render, diff, status, images, open. A module each.

They work by the user's own rights. They only read, but for `diff`, which asks the API server for dry runs; nothing here
may change a cluster.
"""
