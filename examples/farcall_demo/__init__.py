"""The FAQ made real.

a workload with real processes, DNS and system calls, and what must be seen of it.
"""
