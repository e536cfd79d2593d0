"""Who may ask for what: the guards that stand before every page and every API path.

An API path takes the login cookie or `Authorization: Bearer <api token>`; a page takes the cookie alone. Whatever
changes state needs the session's CSRF token as well, because a cookie comes along by itself. Nothing here reads the
store, and no path is open because it was forgotten: the guard is on the application, the open paths are a list.
"""

from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler

from farcall.logintoken import LoginTokenError, check_login_token
from farcall.secretfiles import is_same_secret
from farcall_console.session import Session, Sessions, Spent

API_PREFIX = "/api/"
OPEN_PATHS = ("/healthz", "/login")
OPEN_PREFIXES = (
    "/static/",
)  # scripts and styles: the same for everybody, and the login page needs them
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Connection = ASGIConnection[Any, Any, Any, Any]


class Access:
    """The console's secrets and what was done with them. One per process."""

    def __init__(
        self,
        *,
        api_token: str,
        admin_secret: str,
        cookie_key: str,
        cookie_name: str,
        is_https: bool,
        clock: Callable[[], float],
    ) -> None:
        self.cookie_name = cookie_name
        self.is_https = is_https
        self.sessions = Sessions(cookie_key)
        self._api_token = api_token
        self._admin_secret = admin_secret
        self._nonces = Spent()
        self._clock = clock

    def log_in(self, token: str) -> str:
        """A new cookie for a one-time link. Raises LoginTokenError."""
        now_s = self._clock()
        nonce, expires_s = check_login_token(self._admin_secret, token, now_s=now_s)
        if not self._nonces.spend(nonce, expires_s=expires_s, now_s=now_s):
            raise LoginTokenError("this login link was used before; ask for a new one, as below")
        return self.sessions.issue(now_s=now_s)

    def log_out(self, session: Session) -> None:
        self.sessions.sign_out(session, now_s=self._clock())

    def session_of(self, connection: Connection) -> Session | None:
        cookie = connection.cookies.get(self.cookie_name)
        return self.sessions.read(cookie, now_s=self._clock())

    def is_api_token(self, connection: Connection) -> bool:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and is_same_secret(token.strip(), self._api_token)

    def guard(self, connection: Connection, _handler: BaseRouteHandler) -> None:
        """Refuses what is neither open, nor signed in, nor carries the token."""
        path = connection.scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return
        if path.startswith(API_PREFIX) and self.is_api_token(connection):
            return
        if self.session_of(connection) is None:
            raise NotAuthorizedException("sign in with the link that `farcall login` prints")
        if _method(connection) not in SAFE_METHODS and path.startswith(API_PREFIX):
            self.check_csrf(connection, connection.headers.get("x-csrf-token", ""))

    def check_csrf(self, connection: Connection, token: str) -> None:
        """Raises PermissionDeniedException. Forms carry the token in a field, scripts in a header."""
        session = self.session_of(connection)
        if session is None or not self.sessions.is_csrf_token(session, token):
            raise PermissionDeniedException("the form is too old; load the page again")


def _method(connection: Connection) -> str:
    return str(connection.scope.get("method", "GET"))
