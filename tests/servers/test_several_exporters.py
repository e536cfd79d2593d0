"""Real exporters whose number changes while 100,000 calls pass: one span a call, and the right server's sight on each."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from support_exporter import NS, wait_until
from support_several import EPOCH_NS, Agent, Fleet, Flow, running_fleet, two_agents
from support_store import connect

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

CALLS = 100_000
FLUSH = 2_500
ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
_JOINED = """
SELECT count() AS n, uniqExact(SpanId) AS spans, countIf(IsServerSpan) AS doubles, uniqExact(call) AS calls,
  countIf(duration != '') AS joined, countIf(duration != '' AND toInt64OrZero(duration) != 1000000 + call) AS false_joins
FROM (SELECT SpanId, IsServerSpan, toInt64OrZero(extract(SpanAttributes['url.path'], '/call/([0-9]+)')) AS call,
    if(SpanAttributes['farcall.server.duration_ns'] != '', SpanAttributes['farcall.server.duration_ns'], late) AS duration
  FROM otel_traces LEFT JOIN (SELECT SpanId AS id, any(Attributes['farcall.server.duration_ns']) AS late FROM span_joins GROUP BY id) AS j
    ON j.id = SpanId)
"""

_WAITING = (
    "SELECT JoinKey FROM sights GROUP BY JoinKey HAVING countIf(State != 'waiting') = 0 LIMIT 1"
)
# Who has committed anything of the flow since the third came.
_SHARES = "SELECT Name, count() AS n FROM component_status WHERE Kind = 'exporter' AND JSONExtractUInt(Status, 'counters', 'rows_received') >= 0 GROUP BY Name"  # fmt: skip


def ask(fleet: Fleet, sql: str) -> list[dict[str, Any]]:
    client = connect(fleet.store, "reader")
    try:
        return list(client.query(sql).named_results())
    finally:
        client.close()


def test_a_call_is_one_joined_span_while_two_exporters_become_three_and_then_one(
    tmp_path: Path,
) -> None:
    with running_fleet(tmp_path) as fleet:
        fleet.start(ONE, TWO)
        flow = Flow()
        with two_agents(fleet, [ONE, TWO]) as agents:
            caller, server = agents

            def send(first: int, last: int) -> None:
                """Now the one end is heard of first, now the other."""
                for at in range(first, last, FLUSH):
                    of_client, of_server = flow.make(at, FLUSH, glues=not is_changing.is_set())
                    ends = [(caller, of_client), (server, of_server)]
                    for agent, batch in ends if at // FLUSH % 4 else reversed(ends):
                        agent.put(batch)
                        time.sleep(0.05)
                    if not is_away.is_set():
                        wait_until(is_sent)

            def is_sent() -> bool:
                return not any(a.dispatcher.gauges()["queue_batches"] for a in agents)

            def find(agent: Agent, *found: str) -> None:
                agent.found = list(found)
                wait_until(lambda: set(agent.dispatcher.exporters) == set(found))

            is_changing, is_away = threading.Event(), threading.Event()
            send(0, CALLS // 4)
            fleet.start(THREE)
            is_changing.set()
            find(caller, ONE, TWO, THREE)  # at different moments, as agents do by DNS
            send(CALLS // 4, CALLS // 4 + 2 * FLUSH)
            find(server, ONE, TWO, THREE)
            send(CALLS // 4 + 2 * FLUSH, CALLS // 2)
            time.sleep(3 * EPOCH_NS / NS)  # now the third takes part
            is_changing.clear()
            send(CALLS // 2, CALLS * 3 // 4)
            shares = [row["n"] for row in ask(fleet, _SHARES)]
            is_changing.set()
            is_away.set()
            fleet.end(TWO, signal.SIGKILL)
            send(CALLS * 3 // 4, CALLS * 3 // 4 + FLUSH)
            fleet.end(ONE, signal.SIGTERM)
            send(CALLS * 3 // 4 + FLUSH, CALLS * 3 // 4 + 2 * FLUSH)
            find(server, THREE)
            send(CALLS * 3 // 4 + 2 * FLUSH, CALLS * 3 // 4 + 3 * FLUSH)
            find(caller, THREE)
            is_away.clear()
            is_changing.clear()
            send(CALLS * 3 // 4 + 3 * FLUSH, CALLS)
            told = [agent.dispatcher.counters() for agent in agents]
        # Until nothing waits any more: also what the killed one waited with is taken over.
        wait_until(lambda: not ask(fleet, _WAITING), within_s=240)
        [found] = ask(fleet, _JOINED)
    print(found, shares, told)
    assert len(shares) == 3
    assert found["calls"] == CALLS
    assert (found["n"], found["spans"], found["doubles"]) == (CALLS, CALLS, 0)
    assert found["false_joins"] == 0
    assert found["joined"] >= CALLS * 0.999
    assert not [n for t in told for n in t if n.endswith(("_dropped", "_lost"))]
