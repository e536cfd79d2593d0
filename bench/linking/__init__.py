"""The linking score: servers of every shape, and calls whose true parent is known by their paths."""
