"""What the worker does between batches: keeps lonely sights, mends late names, reads back what waited before a restart."""

import secrets
import time
from collections import deque

from farcall.journal import get_log
from farcall.storeport import StoreError, StoreRefusedError
from farcall_exporter.batches import Tables, drop_empty
from farcall_exporter.clients import ClientSpan
from farcall_exporter.context import Context
from farcall_exporter.ends import find_clients
from farcall_exporter.late import ASK_EVERY_S, ASK_ON_AFTER_S, build_late_names
from farcall_exporter.orphans import Orphans
from farcall_exporter.peers import find_clients_of
from farcall_exporter.pipeline import Pipeline
from farcall_exporter.selection import keep_rows, mark_sample, select_spans
from farcall_exporter.serverspans import build_kept_links
from farcall_exporter.sights import (
    Sight,
    SightError,
    StoredSight,
    build_kept_spans,
    build_sight_joins,
    build_sight_names,
    build_sight_rows,
    parse_sight,
)
from farcall_exporter.waiting import MAX_WAITING

log = get_log("exporter")

RESTORE_WITHIN_NS = 600 * 10**9
TRY_AGAIN_S = 1.0
JUDGE_EVERY_S = 0.25  # sights that wait for an agent: 1 µs each, of which there may be thousands


class Chores:
    """`run` is the pipeline's task. Rows that could not be written stay first in line, under the same token."""

    def __init__(self, pipeline: Pipeline, *, started_ns: int | None = None) -> None:
        """`started_ns`: since when this exporter remembers what it stores, Unix; now when left out."""
        self._pipeline = pipeline
        self._context: Context = pipeline.context
        self._run_id = secrets.token_hex(8)
        self._started_ns = time.time_ns() if started_ns is None else started_ns
        self._number = 0
        self._orphans = None
        if self._context.peers is not None:
            self._orphans = Orphans(
                self._context.run, self._context.counters, wall_ns=self._context.wall_ns
            )
        self._unwritten: deque[tuple[str, Tables]] = deque()
        self._ask_at = 0.0
        self._judge_at = 0.0
        self._try_at = 0.0
        self._refused = 0

    def run(self, now: float) -> None:
        self._forget_cluster()
        if now < self._try_at:
            return
        if not self._unwritten:
            if now >= self._judge_at:
                self._judge_at = now + JUDGE_EVERY_S
                self._keep_sights(now)
            self._ask_again(now)
        self._write(now)

    def _forget_cluster(self) -> None:
        catalog = self._context.catalog
        catalog.forget(time.time_ns())
        refused = catalog.refused
        self._context.counters.add("kubernetes_objects_refused", refused - self._refused)
        self._refused = refused

    def _keep_sights(self, now: float) -> None:
        context = self._context
        due, expelled = context.waiting.take_due(
            now,
            hold_s=context.settings.join_hold_s,
            may_report=context.agents.judge(now, context.find_client_node),
        )
        orphans = []
        if self._orphans is not None:
            orphans = self._orphans.take(self._pipeline.writer, now)
        if not due and not orphans:
            return
        try:
            found = self._find_stored([*due, *orphans])
        except StoreError as e:
            log.warning("the store cannot be asked for clients' spans", error=str(e))
            orphans, found = [], {}  # they are found again
            due = self._wait_on(due, now)
        due += orphans
        kept, given_up = self._split([s for s in due if s.key not in found], now)
        context.counters.add("sights_expelled", expelled)
        context.counters.add("sights_unproven_lost", len(given_up))
        context.counters.add("sights_kept", len(kept))
        context.waiting.remember_kept(kept, now)
        spans = build_kept_spans(kept)
        spans = keep_rows(spans, select_spans(spans, context))
        spans = mark_sample(spans, context.settings.selection)
        context.counters.add("spans_written", spans.num_rows)
        joined = [StoredSight(sight, *found[sight.key]) for sight in due if sight.key in found]
        context.counters.add("joins_from_store", len(joined))
        settled = [(sight, "kept") for sight in kept]
        settled += [(sight, "joined") for sight in [*given_up, *(j.sight for j in joined)]]
        self._enqueue(
            "kept",
            {
                "spans": spans,
                "links": build_kept_links(spans),
                "joins": build_sight_joins(joined),
                "late_names": build_sight_names(joined),
                "sights": build_sight_rows([], settled),
            },
        )

    def _find_stored(self, due: list[Sight]) -> dict[str, tuple[ClientSpan, int]]:
        """By the sight's key, clients' spans that nobody here remembers, but the store has: those stored before we started,
        those of another exporter, and those whose server is outside. Raises StoreError."""
        writer, found = self._pipeline.writer, {}
        if self._context.peers is not None:
            self._say_that_kept(due)
            found = find_clients(due, writer.find_ends)
        asked = [
            s
            for s in due
            if s.key not in found and (s.start_ns < self._started_ns or self._context.is_beyond(s))
        ]
        return found | find_clients_of(asked, writer.find_spans)

    def _say_that_kept(self, due: list[Sight]) -> None:
        """Before the question, so that whoever has the client's end and asks later knows (ends). Raises StoreError."""
        self._number += 1
        rows = build_sight_rows([], [(sight, "keeping") for sight in due])
        self._pipeline.commit({"sights": rows}, f"keeping:{self._run_id}:{self._number}")

    def _wait_on(self, due: list[Sight], now: float) -> list[Sight]:
        """The store could not be asked: all wait on for as long again, but for those that there is no room for."""
        waiting = self._context.waiting
        room = max(0, MAX_WAITING - len(waiting.sights))
        excess = due[: max(0, len(due) - room)]
        for sight in due[len(excess) :]:
            waiting.sights.add(sight, now)
        self._context.counters.add("stored_spans_unasked", len(excess))
        return excess

    def _split(self, due: list[Sight], now: float) -> tuple[list[Sight], list[Sight]]:
        """(sights that become spans, sights whose call very probably is one already)"""
        given_up = [s for s in due if self._has_its_span(s, now)]
        keys = {sight.key for sight in given_up}
        return [s for s in due if s.key not in keys], given_up

    def _has_its_span(self, sight: Sight, now: float) -> bool:
        context = self._context
        if context.unproven.holds(sight):
            return True
        is_alone = sight.identity is None or context.is_beyond(sight)
        return is_alone and context.agents.is_traced(sight.client_ip, now)

    def _ask_again(self, now: float) -> None:
        context = self._context
        if now < self._ask_at:
            return
        context.counters.add("late_forgotten", context.late.forget(now))
        known = context.late.ask_again(context.settings.rules, context.lookups)
        self._ask_at = now + (ASK_EVERY_S if context.late.is_round_over else ASK_ON_AFTER_S)
        for counter, is_reason in (("late_names", False), ("late_reasons", True)):
            spans = [keys for decision, keys in known if (decision.reason is not None) == is_reason]
            context.counters.add(counter, sum(map(len, spans)))
        self._enqueue("late", {"late_names": build_late_names(known)})

    def _enqueue(self, kind: str, tables: Tables) -> None:
        filled = drop_empty(tables)
        if filled:
            self._number += 1
            self._unwritten.append((f"{kind}:{self._run_id}:{self._number}", filled))

    def _write(self, now: float) -> None:
        while self._unwritten:
            token, tables = self._unwritten[0]
            try:
                self._pipeline.commit(tables, token)
            except StoreRefusedError as e:
                self._context.counters.add("batches_given_up_lost", 1)
                log.error("rows are given up", token=token, error=str(e))
            except StoreError as e:
                self._try_at = now + TRY_AGAIN_S
                log.warning("store unavailable", error=str(e))
                return
            self._unwritten.popleft()


def restore_sights(pipeline: Pipeline) -> None:
    """Sights that waited when the last exporter ended wait on, where there is one at a time. Raises StoreError."""
    context = pipeline.context
    if context.peers is not None:  # see orphans
        pipeline.writer.read_waiting_sights(since_ns=time.time_ns())  # whether the store answers
        return
    now = context.clock()
    rows = pipeline.writer.read_waiting_sights(since_ns=time.time_ns() - RESTORE_WITHIN_NS)
    for key, text in rows:
        try:
            context.waiting.sights.add(parse_sight(key, text), now)
        except SightError as e:
            context.counters.add("sights_unreadable_lost", 1)
            log.warning("a waiting sight cannot be read", error=str(e))
        else:
            context.counters.add("sights_restored", 1)
