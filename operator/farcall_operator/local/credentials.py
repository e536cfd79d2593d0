"""Makes the secrets of one instance: random, once each, readable by root alone. Never printed, never in a config file.

All are new with every run but the cookie key, which outlives it: a browser stays logged in over a restart.
"""

import os
import secrets
from pathlib import Path

from farcall import secretfiles

RANDOM_BYTES = 32  # 43 url-safe characters
KEPT = (secretfiles.COOKIE_KEY,)


def write_secrets(secrets_dir: Path, kept_dir: Path) -> None:
    """Writes every file of farcall.secretfiles. Raises OSError."""
    kept_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in secretfiles.ALL:
        secret = _read_or_make(kept_dir / name) if name in KEPT else _make_secret()
        _write_once(secrets_dir / name, secret)


def _read_or_make(path: Path) -> str:
    try:
        return secretfiles.read_secret(path.parent, path.name)
    except secretfiles.SecretError:  # not there yet, or cut short by a full disk
        path.unlink(missing_ok=True)
    secret = _make_secret()
    _write_once(path, secret)
    return secret


def _make_secret() -> str:
    return secrets.token_urlsafe(RANDOM_BYTES)


def _write_once(path: Path, secret: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secret + "\n")
