"""What is installed once into a cluster, beside any TracingConfig: the files under deploy/.

One source, several shapes: the same objects become install.yaml, the kustomize base and the Helm chart's templates.
`python -m farcall_operator.installing` writes them (`make generate` calls it); nothing here runs in a cluster.
"""
