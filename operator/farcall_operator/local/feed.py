"""What `farcall up` shows of the running instance, asked of the HTTP API by a thread: new spans, warnings, losses.

A thread, because an answer may take seconds and the supervisor must not wait. What it found waits in a bounded queue.
"""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from farcall.api import Span, SpanPage, SpanQuery, Status, Window
from farcall.client import ApiError

NS_PER_S = 1_000_000_000
POLL_EVERY_S = 1.0
STATUS_EVERY = 5  # polls
LOOK_BACK_S = 30  # spans arrive after their time: batches, and joins held back for a few seconds
SPANS_AT_ONCE = 200
REMEMBERED = 20_000  # span IDs already shown; 30 s of what a screen could show anyway
QUEUED = 100
LOSS_SUFFIXES = ("_lost", "_dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """`spans` oldest first. `warnings` and `losses` None: nothing new was asked."""

    spans: Sequence[Span] = ()
    warnings: tuple[str, ...] | None = None
    losses: dict[str, int] | None = None
    trouble: str = ""  # why the API could not be asked, "" when it could


class Api(Protocol):
    """The part of farcall.client.ApiClient that is asked here."""

    def list_spans(self, query: SpanQuery) -> SpanPage: ...

    def read_status(self) -> Status: ...


class Feed:
    """One round asks once; `run` is the thread's."""

    def __init__(self, api: Api, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._api = api
        self._now_ns = now_ns
        self._begun_ns = now_ns()
        self._shown: OrderedDict[str, None] = OrderedDict()
        self._rounds = 0
        self._stopped = threading.Event()
        self._news: queue.Queue[News] = queue.Queue(QUEUED)
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread is a daemon: a request that hangs does not hold up the end."""
        self._stopped.set()

    def take(self) -> list[News]:
        taken = []
        while not self._news.empty():
            taken.append(self._news.get_nowait())
        return taken

    def ask(self) -> News:
        """One round."""
        self._rounds += 1
        try:
            spans = self._ask_spans()
            if self._rounds % STATUS_EVERY != 1:
                return News(spans=spans)
            status = self._api.read_status()
        except ApiError as e:
            return News(trouble=str(e))
        return News(spans=spans, warnings=status.warnings, losses=sum_losses(status))

    def _ask_spans(self) -> list[Span]:
        now = self._now_ns()
        since = max(self._begun_ns, now - LOOK_BACK_S * NS_PER_S)
        window = Window(from_ns=since, to_ns=now + NS_PER_S)
        page = self._api.list_spans(SpanQuery(window=window, limit=SPANS_AT_ONCE))
        new = [span for span in page.items if self._is_new(span)]
        return sorted(new, key=lambda span: int(span.start_ns))

    def _is_new(self, span: Span) -> bool:
        identity = f"{span.trace_id}/{span.span_id}"
        if identity in self._shown:
            return False
        self._shown[identity] = None
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return True

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._publish(self.ask())
            self._stopped.wait(POLL_EVERY_S)

    def _publish(self, news: News) -> None:
        try:
            self._news.put_nowait(news)
        except queue.Full:
            pass  # nobody looks (a stopped terminal); the spans are in the store all the same


def sum_losses(status: Status) -> dict[str, int]:
    """What was lost so far, by counter, over all components; zeros left out."""
    losses: dict[str, int] = {}
    for component in status.components:
        for name, value in component.counters.items():
            if name.endswith(LOSS_SUFFIXES) and value.isdigit() and int(value):
                losses[name] = losses.get(name, 0) + int(value)
    return losses
