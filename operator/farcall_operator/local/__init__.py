"""Local mode: the desired state as supervised processes of this machine. `farcall up` is its command."""
