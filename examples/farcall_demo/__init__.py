"""The FAQ made real: a workload with real processes, DNS and system calls, and what must be seen of it.

It knows farcall only as its users do: by the HTTP API, the run directory and the effective config.
"""
