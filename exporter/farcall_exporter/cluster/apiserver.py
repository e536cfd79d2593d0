"""The official client, as far as watching needs it: pages of a list, and the lines of a watch. The one place that imports it.

Its models are not used: a V1Pod costs a hundred times the JSON it is made of. What comes is bytes; each line and each page
is bounded. Errors of the library become those below.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from farcall_exporter.cluster.objects import Json

# Where Kubernetes mounts the account of a pod; ours mounts it itself, into one container.
ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_PAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024  # an object has at most 1.5 MB in etcd, a little more as JSON
PAGE_OBJECTS = 500
CONNECT_WITHIN_S = 5.0
LIST_WITHIN_S = 30.0
WATCH_FOR_S = 290  # the server ends a watch then; the next one goes on from where it ended
SILENT_FOR_S = 120.0  # bookmarks come about every minute: a connection without any is dead

_T = TypeVar("_T")


class ApiError(Exception):
    """`status` is HTTP's, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message[:256])


class GoneError(ApiError):
    """The resource version is too old (410): list again."""


class Page(NamedTuple):
    items: list[Json]
    version: str
    token: str  # "" on the last page


class ApiServer:
    """`client` is a kubernetes.client.ApiClient."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def in_cluster(
        cls, folder: Path = ACCOUNT_DIR, environment: Mapping[str, str] = os.environ
    ) -> "ApiServer":
        """With the pod's own account, whose token is read again as it is renewed. Raises ApiError when the pod has none."""
        from kubernetes import client
        from kubernetes.config.config_exception import ConfigException
        from kubernetes.config.incluster_config import InClusterConfigLoader

        configuration = client.Configuration()
        try:
            loader: Any = InClusterConfigLoader  # untyped upstream
            token, authority = str(folder / "token"), str(folder / "ca.crt")
            loader(token, authority, environ=environment).load_and_set(configuration)
        except (ConfigException, OSError) as e:
            raise ApiError(0, f"this pod has no access to the API server: {e}") from e
        return cls(make_client(configuration))

    def list_page(self, path: str, *, accept: str, query: Mapping[str, str], token: str) -> Page:
        """Raises ApiError."""
        asked = {**query, "limit": str(PAGE_OBJECTS), **({"continue": token} if token else {})}
        response = self._get(path, asked, accept, LIST_WITHIN_S)
        try:
            body = _translate(lambda: _read_whole(response))
        finally:
            response.release_conn()
        value = _parse(body)
        metadata = value.get("metadata")
        items = value.get("items")
        if not isinstance(metadata, dict) or not isinstance(items, list | type(None)):
            raise ApiError(0, "the answer is no list of objects")
        return Page(
            [item for item in items or () if isinstance(item, dict)],
            str(metadata.get("resourceVersion") or ""),
            str(metadata.get("continue") or ""),
        )

    def watch(
        self,
        path: str,
        *,
        accept: str,
        query: Mapping[str, str],
        version: str,
        on_open: Callable[[Any], None],
    ) -> Iterator[tuple[str, Json]]:
        """(type, object) until the server ends the watch. Raises GoneError, ApiError.

        `on_open` gets the response, whose `close` from another thread ends the watch.
        """
        asked = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_FOR_S),
        }
        response = self._get(path, asked, accept, SILENT_FOR_S)
        on_open(response)
        try:
            lines = _split_lines(response.stream(65_536, decode_content=True))
            while (line := _translate(lambda: next(lines, None))) is not None:
                yield _parse_event(line)
        finally:
            response.close()

    def _get(self, path: str, query: Mapping[str, str], accept: str, within_s: float) -> Any:
        """The open response of a 200. Raises ApiError."""

        def ask() -> Any:
            request = self._client.param_serialize(
                "GET",
                path,
                query_params=list(query.items()),
                header_params={"Accept": accept},
                auth_settings=["BearerToken"],
            )
            timeout = (CONNECT_WITHIN_S, within_s)
            return self._client.call_api(*request, _request_timeout=timeout).response

        response = _translate(ask)
        if response.status == 200:
            return response
        try:
            text = _translate(lambda: response.read(4_096, decode_content=True))
        finally:
            response.close()
        message = f"{response.status} for {path}: {text.decode('utf-8', 'replace')}"
        raise (GoneError if response.status == 410 else ApiError)(response.status, message)


def make_client(configuration: Any) -> Any:
    """One connection is taken by each watch; a failed request is tried again by whoever watches, not below."""
    from kubernetes import client

    configuration.retries = False
    configuration.connection_pool_maxsize = 10
    return client.ApiClient(configuration)


def _translate(ask: Callable[[], _T]) -> _T:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return ask()
    except ApiException as e:
        raise ApiError(int(e.status or 0), f"{e.status}: {e.reason}") from e
    except (HTTPError, OSError, AttributeError) as e:  # AttributeError: closed under a read
        raise ApiError(0, f"{type(e).__name__}: {e}") from e


def _read_whole(response: Any) -> bytes:
    body = bytearray()
    for part in response.stream(1 << 20, decode_content=True):
        body += part
        if len(body) > MAX_PAGE_BYTES:
            raise ApiError(0, f"a page has more than {MAX_PAGE_BYTES} bytes")
    return bytes(body)


def _split_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest = bytearray()
    for part in parts:
        rest += part
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise ApiError(0, f"an event has more than {MAX_LINE_BYTES} bytes")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise ApiError(0, f"the answer is no JSON: {e}") from e
    if not isinstance(value, dict):
        raise ApiError(0, "the answer is no JSON object")
    return value


def _parse_event(line: bytes) -> tuple[str, Json]:
    """Raises GoneError for the server's own word that the version is too old, ApiError for its other errors."""
    event = _parse(line)
    item = event.get("object")
    if not isinstance(item, dict):
        raise ApiError(0, "an event has no object")
    if event.get("type") != "ERROR":
        return str(event.get("type")), item
    code = item.get("code")
    status = code if isinstance(code, int) else 0
    raise (GoneError if status == 410 else ApiError)(status, str(item.get("message")))
