"""Login cookies and one-time links: who is signed in. Pure: the clock is an argument, nothing is read or written.

A cookie is `<expiry>.<session id>.<signature>`, signed with the cookie key. Nothing about a session is stored,
so a restart signs nobody out; what is remembered is what was taken back: nonces already spent and sessions signed
out, each until it would have expired anyway. A restart forgets those: a link used in its last ten minutes could
then be used once more, by whoever still has it. Written down because it is a limit, not because it is wanted.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

SESSION_S = 12 * 3_600  # a working day; `farcall login` gives the next one
MAX_REMEMBERED = 10_000  # nonces or sessions; each is minted by whoever holds the admin secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id: str
    expires_s: int


class Spent:
    """Remembers values until they expire, bounded. Used for nonces and for sessions signed out."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def spend(self, value: str, *, expires_s: int, now_s: float) -> bool:
        """True the first time, False when the value was spent before."""
        self._forget(now_s)
        if value in self._until:
            return False
        if len(self._until) >= MAX_REMEMBERED:
            return False  # refusing a login is the safe side of a full memory
        self._until[value] = expires_s
        return True

    def holds(self, value: str) -> bool:
        return value in self._until

    def _forget(self, now_s: float) -> None:
        for value in [v for v, until in self._until.items() if until < now_s]:
            del self._until[value]


class Sessions:
    """Issues, reads and revokes cookies."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._signed_out = Spent()

    def issue(self, *, now_s: float) -> str:
        payload = f"{int(now_s) + SESSION_S}.{secrets.token_urlsafe(16)}"
        return f"{payload}.{self._sign('session', payload)}"

    def read(self, cookie: str | None, *, now_s: float) -> Session | None:
        """The session of a cookie that we signed, that has not expired and was not signed out."""
        payload, _, signature = (cookie or "").rpartition(".")
        if not payload or not _is_equal(signature, self._sign("session", payload)):
            return None
        expiry, _, session_id = payload.partition(".")
        session = Session(id=session_id, expires_s=int(expiry))
        if session.expires_s < now_s or self._signed_out.holds(session.id):
            return None
        return session

    def sign_out(self, session: Session, *, now_s: float) -> None:
        self._signed_out.spend(session.id, expires_s=session.expires_s, now_s=now_s)

    def csrf_token(self, session: Session) -> str:
        """Bound to the session: another session's page cannot borrow it."""
        return self._sign("csrf", session.id)

    def is_csrf_token(self, session: Session, token: str) -> bool:
        return _is_equal(token, self.csrf_token(session))

    def _sign(self, purpose: str, payload: str) -> str:
        message = f"farcall-{purpose}\0{payload}".encode()
        digest = hmac.new(self._key, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_equal(given: str, expected: str) -> bool:
    try:
        return hmac.compare_digest(given.encode("utf-8"), expected.encode("utf-8"))
    except UnicodeEncodeError:  # a lone surrogate
        return False
