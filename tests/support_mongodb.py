"""A server that speaks MongoDB's wire protocol, for tests: mongo-java-server, in memory, on a free port of loopback.

MongoDB itself is in none of the registries that a build reaches. This one speaks OP_MSG and OP_QUERY, has databases,
collections, indexes, cursors, aggregation and MongoDB's error codes; no compression, no exhaust cursors, no sessions.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support_jvm import find_server, java, running_java
from support_ports import find_free_port


@contextmanager
def running_mongodb() -> Iterator[int]:
    """Its port; no user, no password."""
    server = find_server("mongodb")
    folder = Path(tempfile.mkdtemp(prefix="farcall-mongodb-"))
    port = find_free_port()
    command = java(server, "-Xmx64m", "Serve", str(port))
    try:
        with running_java(command, folder=folder, port=port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
