"""The outermost layer: which hosts are answered, and the headers that every answer carries, whatever made it.

Plain ASGI around the whole application, so that no error page, static file or redirect can escape it.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

# `style-src 'self'` forbids style attributes; positions are set through the CSSOM, which it allows.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # trace IDs and login tokens live in URLs
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)
NO_STORE = (b"cache-control", b"no-store")
HEALTH_PATH = "/healthz"  # a kubelet asks by pod address, and learns nothing
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
REFUSAL = (
    b"421 Misdirected Request: this console does not answer to that host name; "
    b"start it with --allow-host NAME\n"
)


class Border:
    """DNS rebinding stops here: a page elsewhere can point its own name at us, but not choose another one."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: frozenset[str]) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        sealed = _seal(send)
        if scope["path"] == HEALTH_PATH or host_of(scope) in self._allowed_hosts:
            await self._app(scope, receive, sealed)
        else:
            await _refuse(sealed)


def build_allowed_hosts(console_url: str, extra: Iterable[str] = ()) -> frozenset[str]:
    """Loopback, the address in the config unless it is a wildcard, and what was given by hand."""
    configured = urlsplit(console_url).hostname or ""
    names = {*LOOPBACK_NAMES, *(name.lower().strip("[]") for name in extra)}
    if configured and not _is_wildcard(configured):
        names.add(configured.lower())
    return frozenset(names)


def host_of(scope: Scope) -> str:
    """The host name of the request without its port, lower-case; "" when there is none or more than one."""
    values = [value for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1:
        return ""
    try:
        return (urlsplit(f"//{values[0].decode('ascii')}").hostname or "").rstrip(".")
    except ValueError:  # not ASCII, or brackets that do not close
        return ""


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _seal(send: Send) -> Send:
    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            headers += SECURITY_HEADERS
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(NO_STORE)
            message["headers"] = headers
        await send(message)

    return sealed


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL, "more_body": False})
