"""One-time login links: a nonce and an expiry, signed with the admin secret. Whoever can read that secret can mint one.

`<expiry>.<nonce>.<signature>`: expiry in Unix seconds, nonce 128 random bits, signature HMAC-SHA256, all url-safe.
The console remembers the nonces it has seen until they expire, so a link works once.
"""

import base64
import hashlib
import hmac
import secrets

LOGIN_PATH = "/login"  # of the console: GET with ?token=…
MAX_TOKEN_LENGTH = 256  # ours have about 80; longer ones are not worth hashing
LIFETIME_S = 600  # a link printed by `farcall up` is used within minutes or not at all


_INVALID = "this login link is not valid; ask for a new one, as below"


class LoginTokenError(Exception):
    """The token is malformed, forged or too old. The message may be shown to the user."""


def mint_login_token(admin_secret: str, *, now_s: float, lifetime_s: int = LIFETIME_S) -> str:
    payload = f"{int(now_s) + lifetime_s}.{secrets.token_urlsafe(16)}"
    return f"{payload}.{_sign(admin_secret, payload)}"


def render_login_link(console_url: str, token: str) -> str:
    return f"{console_url.rstrip('/')}{LOGIN_PATH}?token={token}"


def check_login_token(admin_secret: str, token: str, *, now_s: float) -> tuple[str, int]:
    """The nonce and its expiry in Unix seconds. Raises LoginTokenError. Seen nonces are the caller's business."""
    payload, _, signature = token.rpartition(".")
    # Ours are ASCII: anything else (a lone surrogate cannot even be encoded) is refused before it is compared.
    if not token.isascii() or len(token) > MAX_TOKEN_LENGTH:
        raise LoginTokenError(_INVALID)
    if not hmac.compare_digest(signature.encode(), _sign(admin_secret, payload).encode()):
        raise LoginTokenError(_INVALID)
    expiry, _, nonce = payload.partition(".")
    if not expiry.isdigit() or not nonce:
        raise LoginTokenError(_INVALID)
    if int(expiry) < now_s:
        raise LoginTokenError("this login link has expired; ask for a new one, as below")
    return nonce, int(expiry)


def _sign(admin_secret: str, payload: str) -> str:
    digest = hmac.new(
        admin_secret.encode(), b"farcall-login\0" + payload.encode(), hashlib.sha256
    ).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
