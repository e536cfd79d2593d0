"""Large answers, made into bytes where it does not hurt: in the worker thread that read them.

50,000 spans are 44 MB of JSON; encoding and compressing them takes more than a second, in which the event loop would serve
nobody else. Small answers are left to the framework.
"""

import gzip
from typing import Any

import msgspec
from litestar import Response
from litestar.enums import MediaType

COMPRESSES_ITSELF = "compresses_itself"  # a handler's opt: the framework's compression keeps off
GZIP_LEVEL = 1  # a trace shrinks thirteenfold; higher levels cost more than they save
GZIP_FROM_BYTES = 2_048


def render_json(value: object, *, accept_encoding: str) -> Response[Any]:
    content = msgspec.json.encode(value)
    headers = {"vary": "accept-encoding"}
    if len(content) >= GZIP_FROM_BYTES and "gzip" in accept_encoding.lower():
        content = gzip.compress(content, GZIP_LEVEL)
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=MediaType.JSON, headers=headers)
