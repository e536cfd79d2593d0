"""Our end of the store's HTTP interface: one clickhouse-connect client, its errors translated at this border.

No session (each call stands alone), no compression (loopback), short time limits: a store that hangs must not take
its callers along. Connects at the first call and again whenever that failed.
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.client import Client as DriverClient
from clickhouse_connect.driver.exceptions import ClickHouseError, StreamCompleteException

from farcall.storeport import StoreError, StoreRefusedError, StoreUnavailableError
from farcall_store.engine import DATABASE

CONNECT_TIMEOUT_S = 5
TIMEOUT_S = 15
MAX_MESSAGE = 500
CANNOT_COMPILE_REGEXP = 427
# Answers that say "not now": another try of the same call may work.
_PASSING = frozenset(
    {
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES: our queue is full
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        243,  # NOT_ENOUGH_SPACE: somebody will make room
        394,  # QUERY_WAS_CANCELLED
        439,  # CANNOT_SCHEDULE_TASK
    }
)
# What the driver puts around the server's words.
_AROUND = re.compile(
    r"^Received ClickHouse exception, code: \d+, server response: | \(for url [^)]*\)$"
)
# The driver warns on its own of what we report as an error.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


class RefusedByCodeError(StoreRefusedError):
    """Keeps the engine's code for the room's own use."""

    def __init__(self, message: str, *, code: int) -> None:
        self.code = code
        super().__init__(message)


class Client:
    def __init__(self, url: str, *, user: str, password: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the store's address must be http(s)://host:port (it is {url!r})")
        self._url = parts
        self._user = user
        self._password = password
        self._lock = threading.Lock()
        self._driver: DriverClient | None = None

    def query(self, sql: str, params: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts. Raises StoreUnavailableError, StoreRefusedError."""
        with _translated():
            result = self._connect().query(sql, parameters=dict(params or {}))
            return list(result.named_results())

    def insert(self, table: str, columns: Sequence[str], stream: bytes, *, token: str) -> None:
        """One Arrow IPC stream into one table; the same token again changes nothing."""
        names = ", ".join(f"`{column}`" for column in columns)
        head = (
            f"INSERT INTO {table} ({names}) SETTINGS insert_deduplication_token='{token}' "
            "FORMAT ArrowStream\n"
        )
        with _translated():
            self._connect().raw_insert("", insert_block=head.encode() + stream, fmt="ArrowStream")

    def close(self) -> None:
        with self._lock:
            if self._driver is not None:
                self._driver.close()
                self._driver = None

    def _connect(self) -> DriverClient:
        with self._lock:
            if self._driver is None:
                self._driver = clickhouse_connect.get_client(
                    interface=self._url.scheme,
                    host=self._url.hostname,
                    port=self._url.port or (8443 if self._url.scheme == "https" else 8123),
                    username=self._user,
                    password=self._password,
                    database=DATABASE,
                    compress=False,
                    query_limit=0,
                    query_retries=1,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    send_receive_timeout=TIMEOUT_S,
                    autogenerate_session_id=False,
                    autogenerate_query_id=False,
                    pool_mgr=httputil.get_pool_manager(maxsize=16, num_pools=1),
                )
            return self._driver


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, StreamCompleteException, OSError) as e:
        raise translate(e) from e


def translate(error: Exception) -> StoreError:
    """What the library raised, as the port says it."""
    code = getattr(error, "code", None)
    message = _AROUND.sub("", " ".join(str(error).split()))[:MAX_MESSAGE]
    if isinstance(code, int) and code not in _PASSING:
        return RefusedByCodeError(message, code=code)
    return StoreUnavailableError(message)
