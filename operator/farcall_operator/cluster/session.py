"""HTTP sessions to the API server, ours and kopf's alike: the token on each request, each request counted.

It knows neither kinds nor retries; those are the client's.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version

import aiohttp

from farcall_operator.cluster.access import Access
from farcall_operator.cluster.paths import Asked, describe_request

# Called once per request with the code, 0 when there was no answer.
CountRequest = Callable[[Asked, int], None]
UNAUTHORIZED = 401
CONNECT_WITHIN_S = 10.0
# A TLS connection holds 130 KB of ours and costs both sides a handshake; more than these at once make nothing faster.
CONNECTIONS = 16
KEEP_ALIVE_S = 75.0  # the API server closes after 90: an edit need not wait for a handshake


def count_nothing(_asked: Asked, _code: int) -> None: ...


def open_session(
    access: Access,
    *,
    count: CountRequest = count_nothing,
    inner: Sequence[aiohttp.ClientMiddlewareType] = (),
    hides_refusal: bool = False,
    connections: int = CONNECTIONS,
) -> aiohttp.ClientSession:
    """Needs a running loop. `inner` see each request as it goes out.

    `hides_refusal`: a 401 is told as a connection that failed, for whoever would close the session over it.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections,
            keepalive_timeout=KEEP_ALIVE_S,
            ssl=access.tls if access.tls is not None else True,
        ),
        headers={"User-Agent": f"farcall-operator/{version('farcall')}"},
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_WITHIN_S),
        # The counter inside: a request that is sent again with another token is two.
        middlewares=(
            _build_authenticator(access, hides_refusal=hides_refusal),
            _build_counter(count),
            *inner,
        ),
        proxy=access.proxy,
        trust_env=False,
    )


def asked_of(request: aiohttp.ClientRequest) -> Asked:
    return describe_request(
        request.method, request.url.path, watch=request.url.query.get("watch") in ("true", "1")
    )


def _build_counter(count: CountRequest) -> aiohttp.ClientMiddlewareType:
    async def counter(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            response = await handler(request)
        except (aiohttp.ClientError, OSError, TimeoutError):
            count(asked_of(request), 0)
            raise
        count(asked_of(request), response.status)
        return response

    return counter


def _build_authenticator(access: Access, *, hides_refusal: bool) -> aiohttp.ClientMiddlewareType:
    async def authenticator(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        used = _authorize(request, access)
        response = await handler(request)
        if response.status == UNAUTHORIZED:
            access.token.refresh()
            # A token that was renewed in its file a moment ago: once more with the new one. Compared with the one that was
            # sent, since another request may have read the file in between.
            if access.token.current() != used:
                response.release()
                _authorize(request, access)
                response = await handler(request)
        if response.status == UNAUTHORIZED and hides_refusal:
            response.release()
            raise aiohttp.ClientConnectionError("the API server does not accept the token")
        return response

    return authenticator


def _authorize(request: aiohttp.ClientRequest, access: Access) -> str:
    token = access.token.current()
    if token:
        request.headers["Authorization"] = f"Bearer {token}"
    return token
