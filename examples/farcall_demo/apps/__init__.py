"""The demo's applications: small programs as people write them, that know nothing of farcall."""
