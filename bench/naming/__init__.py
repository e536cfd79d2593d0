"""The naming score: real processes, resolvers, DNS and Redis, against a table of what each call must be called."""
