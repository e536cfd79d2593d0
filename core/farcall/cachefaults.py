"""What can be the matter with the DNS cache: a closed list, with a sentence for people. Pure; farcall.dnscache finds which it is."""

from enum import StrEnum


class CacheFault(StrEnum):
    GONE = "gone"
    SLOW = "slow"
    LOADING = "loading"
    REFUSED = "refused"
    READ_ONLY = "read_only"
    FULL = "full"
    DISK = "disk"
    TLS = "tls"
    OTHER = "other"


SENTENCES = {
    CacheFault.GONE: "Redis cannot be reached",
    CacheFault.SLOW: "Redis does not answer in time",
    CacheFault.LOADING: "Redis is still loading its data",
    CacheFault.REFUSED: "Redis refuses our user: its password or its rights are not as they should be",
    CacheFault.READ_ONLY: "Redis takes no writes: it is a replica, or lacks replicas",
    CacheFault.FULL: "Redis is full, and has nothing that it may give up",
    CacheFault.DISK: "Redis takes no writes: it cannot write to its disk",
    CacheFault.TLS: "TLS with Redis fails",
    CacheFault.OTHER: "Redis cannot be asked",
}
