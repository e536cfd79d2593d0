"""Posts batches to one exporter, in order, from one thread: the capture loop never waits for the network.

The queue is bounded by bytes and by batches; when it is full the oldest batch goes, since the newest is what somebody looks at.
What each answer means is in farcall.envelope. The status is posted on its own clock, between batches and also while batches
have to wait; and once more at the end, behind the last batch.
"""

import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farcall import journal
from farcall.envelope import BATCH_CONTENT_TYPE, BATCH_PATH, STATUS_PATH, AgentStatus
from farcall.exchange import BatchKind
from farcall.secretfiles import INGEST_TOKEN, SecretError, read_secret
from farcall.tlsfiles import CA, PinnedAuthority, TlsFault, TlsFileError, find_tls_fault

MAX_QUEUE_BYTES = 32 * 1024 * 1024
MAX_QUEUE_BATCHES = 512
BEHIND_BATCHES = 6  # two rounds of the three kinds: below it an exporter is merely answering
TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 15.0
MAX_RETRY_AFTER_S = 60.0
MAX_ANSWER_BYTES = 4096
STATUS_EVERY_S = 3.0
_REFUSED = frozenset((400, 413, 415, 422))
# What a connection that the server has closed looks like when it is used once more.
_CLOSED = (
    http.client.RemoteDisconnected,
    ConnectionError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    kind: BatchKind
    number: int
    rows: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int  # 0: no answer
    retry_after_s: float | None
    detail: str
    tls: TlsFault | None = None
    may_have_arrived: bool = True


class Sender:
    """`make_status` is called on this thread, just before it is sent. An `https` exporter must be of `ca_file`'s making."""

    def __init__(
        self,
        *,
        url: str,
        address: str | None = None,  # of the exporter; None: the one that the URL's host has
        secrets_dir: str,
        ca_file: Path | None = None,  # None: the one beside the secrets
        make_status: Callable[[], AgentStatus],
        tells_status: bool = True,
        status_every_s: float = STATUS_EVERY_S,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        max_queue_batches: int = MAX_QUEUE_BATCHES,
    ) -> None:
        self._link = _Link(url, address, ca_file or Path(secrets_dir) / CA)
        self._secrets_dir = secrets_dir
        self._token: str | None = None
        self._make_status = make_status
        self._tells_status = tells_status
        self._status_every_s = status_every_s
        self._limits = max_queue_bytes, max_queue_batches
        self._queue: deque[Batch] = deque()
        self._queue_bytes = 0
        self._changed = threading.Condition()
        self._counters: Counter[str] = Counter()
        self._stop_at: float | None = None
        self._tried: Batch | None = None  # of which nobody knows whether it arrived
        self._failures = 0
        self._tls_cause: str | None = None
        self._not_before = 0.0  # no batch is tried earlier
        self._status_due = 0.0
        self._owes_last_word = True
        self._log = journal.get_log("sender")
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Never waits."""
        with self._changed:
            self._queue.append(batch)
            self._queue_bytes += len(batch.payload)
            max_bytes, max_batches = self._limits
            while self._queue_bytes > max_bytes or len(self._queue) > max_batches:
                self._drop_oldest()
            self._changed.notify()

    @property
    def is_behind(self) -> bool:
        """Batches wait: rows do better to wait too, and go in fewer and larger ones."""
        return len(self._queue) >= BEHIND_BATCHES

    def _drop_oldest(self) -> None:
        oldest = self._queue.popleft()
        self._queue_bytes -= len(oldest.payload)
        self._counters[f"queue_{oldest.kind}_dropped"] += oldest.rows

    def counters(self) -> dict[str, int]:
        with self._changed:
            return dict(self._counters)

    def gauges(self) -> dict[str, float]:
        with self._changed:
            return {"queue_batches": len(self._queue), "queue_bytes": self._queue_bytes}

    def tell_status(self, is_told: bool) -> None:
        with self._changed:
            self._tells_status = is_told
            self._changed.notify()

    def set_limits(self, max_bytes: int, max_batches: int) -> None:
        """In force from the next batch on."""
        with self._changed:
            self._limits = max_bytes, max_batches

    def stop(self, within_s: float) -> None:
        """Sends what is queued as far as the time allows; the rest is dropped and counted."""
        self.begin_stop(within_s)
        self.finish_stop(within_s)

    def begin_stop(self, within_s: float) -> None:
        with self._changed:
            self._stop_at = time.monotonic() + within_s
            self._not_before = 0.0
            self._failures = 0
            self._changed.notify()

    def finish_stop(self, within_s: float) -> None:
        self._thread.join(within_s + 1.0)
        with self._changed:
            while self._queue:
                self._drop_oldest()

    def retire(self) -> tuple[Batch | None, list[Batch]]:
        """Ends without sending more: (the batch that may have arrived, those that certainly did not)."""
        self.begin_stop(0.0)
        self._thread.join(TIMEOUT_S + 1.0)
        with self._changed:
            left, self._queue, self._queue_bytes = list(self._queue), deque(), 0
            tried = left.pop(0) if left and left[0] is self._tried else None
            return tried, left

    def _run(self) -> None:
        while (task := self._next()) is not None:
            if isinstance(task, Batch):
                self._send_batch(task)
            else:
                self._send_status()
            del task  # what was sent is not kept until there is something else
        self._link.close()

    def _next(self) -> Batch | str | None:
        """A batch, the word `status`, or None when it is time to end. Waits for one of them."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._stop_at is not None and (not self._queue or now >= self._stop_at):
                    return self._take_last_word(now)
                if self._tells_status and now >= self._status_due and self._stop_at is None:
                    return "status"
                if self._queue and now >= self._not_before:
                    return self._queue[0]
                due = self._stop_at if self._stop_at is not None else self._status_due
                if not self._tells_status and self._stop_at is None:
                    due = now + self._status_every_s
                if self._queue:
                    due = min(due, self._not_before)
                self._changed.wait(max(due - now, 0.001))

    def _take_last_word(self, now: float) -> str | None:
        """The status once more, when there is time for it."""
        owed, self._owes_last_word = self._owes_last_word, False
        is_time = self._stop_at is not None and now < self._stop_at
        return "status" if owed and is_time and self._tells_status else None

    def _send_batch(self, batch: Batch) -> None:
        answer = self._post(BATCH_PATH, BATCH_CONTENT_TYPE, batch.payload)
        if answer.status == 200:
            self._settle(batch, f"sent_{batch.kind}")
            if self._failures:
                self._log.info("exporter takes batches again", after_failures=self._failures)
            self._failures = 0
        elif answer.status in _REFUSED:
            self._settle(batch, f"refused_{batch.kind}_dropped")
            self._log.warning(
                "batch refused", kind=batch.kind, status=answer.status, why=answer.detail
            )
        else:
            if answer.may_have_arrived:  # also of an answer: half of it may be stored
                self._tried = batch
            self._back_off(answer)

    def _settle(self, batch: Batch, counter: str) -> None:
        """The batch is done with, unless it was dropped while it was under way: then it is counted there."""
        with self._changed:
            if self._tried is batch:
                self._tried = None
            if self._queue and self._queue[0] is batch:
                self._queue.popleft()
                self._queue_bytes -= len(batch.payload)
                self._counters[counter] += batch.rows

    def _back_off(self, answer: _Answer) -> None:
        if answer.status in (401, 403):
            self._token = None  # the file may hold a new one
        self._failures += 1
        wait_s = answer.retry_after_s
        if wait_s is None:
            ceiling = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10))
            # Jitter: the agents of a cluster must not come back in step.
            wait_s = random.uniform(ceiling / 2, ceiling)
        with self._changed:
            self._counters["send_failures"] += 1
            self._not_before = time.monotonic() + wait_s
        if self._failures in (1, 10) or self._failures % 100 == 0:
            self._log.warning(
                "exporter did not take a batch; it is kept",
                status=answer.status,
                why=answer.detail,
                retry_in_s=round(wait_s, 1),
                failures=self._failures,
            )

    def _send_status(self) -> None:
        self._status_due = time.monotonic() + self._status_every_s
        status = self._make_status()
        if self._queue:  # looked at behind the status: what that speaks of may lie there
            status = replace(status, reported_ns=0)
        body = json.dumps(status.to_json()).encode()
        answer = self._post(STATUS_PATH, "application/json", body)
        with self._changed:
            self._counters["status_sent" if answer.status == 200 else "status_failures"] += 1
        if answer.status in (401, 403):
            self._token = None

    def _post(self, path: str, content_type: str, body: bytes) -> _Answer:
        if self._token is None:
            try:
                self._token = read_secret(self._secrets_dir, INGEST_TOKEN)
            except SecretError as e:
                return _Answer(status=0, retry_after_s=None, detail=str(e))
        answer = self._link.post(path, content_type, body, self._token)
        self._note_tls(answer)
        return answer

    def _note_tls(self, answer: _Answer) -> None:
        """Says at once that the certificates are at fault: waiting does not mend that, and the status cannot be sent."""
        if answer.tls is None:
            if answer.status and self._tls_cause:
                self._log.info("the exporter's certificate is accepted again")
                self._tls_cause = None
            return
        with self._changed:
            self._counters["send_tls_failures"] += 1
        if answer.tls.cause != self._tls_cause:
            self._tls_cause = answer.tls.cause
            self._log.error(
                "no TLS connection to the exporter; batches are kept",
                cause=answer.tls.cause,
                why=answer.tls.sentence,
            )


class _Link:
    """One kept-alive connection, opened anew after any fault. With an address, that is dialled, and the certificate is still
    to be for the URL's host."""

    def __init__(self, url: str, address: str | None, ca_file: Path) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._address = address
        self._authority = PinnedAuthority(ca_file) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, content_type: str, body: bytes, token: str) -> _Answer:
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {token}"}
        if self._authority is not None and self._authority.has_changed():
            self.close()  # whom we trusted then may not be trusted any more
        fresh = self._connection is None
        try:
            if self._connection is None:
                self._connection = self._open()
                self._connection.connect()
        except (OSError, TlsFileError) as e:
            self.close()
            return self._fault(e, may_have_arrived=False)
        try:
            return self._exchange(self._connection, path, body, headers)
        except (OSError, http.client.HTTPException) as e:
            self.close()
            # The server may close an idle connection at any time; that is no fault of the exporter's.
            if not fresh and isinstance(e, _CLOSED):
                return self.post(path, content_type, body, token)
            return self._fault(e, may_have_arrived=True)

    def _fault(self, error: Exception, *, may_have_arrived: bool) -> _Answer:
        tls = find_tls_fault(error)
        detail = tls.sentence if tls else f"{type(error).__name__}: {error}"
        return _Answer(
            status=0,
            retry_after_s=None,
            detail=detail[:256],
            tls=tls,
            may_have_arrived=may_have_arrived,
        )

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: dict[str, str],
    ) -> _Answer:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        detail = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():  # a longer answer than ours ever is: do not read on
            self.close()
        return _Answer(
            status=response.status,
            retry_after_s=_retry_after(response.getheader("Retry-After")),
            detail=detail[:256].decode("utf-8", "backslashreplace"),
        )

    def _open(self) -> http.client.HTTPConnection:
        made: http.client.HTTPConnection
        if self._authority is None:
            made = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        else:
            context = self._authority.context()
            made = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=context
            )
        if self._address is not None:
            made._create_connection = self._dial  # type: ignore[attr-defined]
        return made

    def _dial(self, end: tuple[str, int], *rest: Any) -> socket.socket:
        return socket.create_connection((self._address, end[1]), *rest)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _retry_after(value: str | None) -> float | None:
    if value is None or not value.isdigit() or len(value) > 6:
        return None
    return min(float(value), MAX_RETRY_AFTER_S)
