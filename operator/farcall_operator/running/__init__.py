"""The operator as a process: who leads, what is watched, what waits to be reconciled, how it tells of itself."""
