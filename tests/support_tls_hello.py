"""The first bytes of a TLS client."""

import ssl

import pytest


def make_hello(name: str | None, alpn: list[str]) -> bytes:
    """What OpenSSL sends."""
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(alpn)
    if name is None:
        context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
