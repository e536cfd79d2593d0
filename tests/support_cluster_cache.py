"""What is in the DNS cache of a cluster: asked of Redis in its own pod, with the password that is there."""

from support_cluster import NAMESPACE, Cluster

# Keys of names by client and address, and how many seconds each has yet.
_ASK = """
secrets=/run/secrets/farcall
export REDISCLI_AUTH=$(cat $secrets/redis-exporter-password)
ask() { redis-cli --tls --cacert $secrets/ca.crt --user farcall-exporter --no-auth-warning "$@"; }
ask --scan --pattern 'fc1:a:*' | while read -r key; do echo "$(ask pttl "$key" </dev/null) $key"; done
"""


def list_lives(cluster: Cluster, name: str) -> dict[str, float]:
    """Seconds that each entry has to live, by its key."""
    said = cluster.kubectl("-n", NAMESPACE, "exec", f"{name}-redis-0", "--", "sh", "-c", _ASK)
    found = (line.split(maxsplit=1) for line in said.splitlines())
    return {key: int(left) / 1000 for left, key in found if int(left) > 0}
