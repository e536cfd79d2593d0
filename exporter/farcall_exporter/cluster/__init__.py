"""Which workload of the cluster an address belonged to at a given time: watched from the API server, asked by the batch."""
