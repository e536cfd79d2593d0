"""The node agent.

system calls in, batches of exchanges and DNS answers out. Never imports the exporter or the store.
"""
