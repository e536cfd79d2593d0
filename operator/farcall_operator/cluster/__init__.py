"""How the operator meets a cluster: the port, what is known of it, and the client that speaks its API."""
