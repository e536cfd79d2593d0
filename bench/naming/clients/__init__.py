"""The clients' programs, one per resolver, and the processes that run them."""
