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
# A server's span tells its call by its duration (Flow), as a joined client's does by what was joined to it.
_JOINED = """
SELECT count() AS n, uniqExact(SpanId) AS spans, uniqExact(call) AS calls, countIf(IsServerSpan) AS servers,
  countIf(duration != '') AS joined, countIf(duration != '' AND toInt64OrZero(duration) != 1000000 + call) AS false_joins
FROM (SELECT SpanId, IsServerSpan, if(SpanAttributes['farcall.server.duration_ns'] != '', SpanAttributes['farcall.server.duration_ns'], late) AS duration,
    if(IsServerSpan, toInt64(Duration) - 1000000, toInt64OrZero(extract(SpanAttributes['url.path'], '/call/([0-9]+)'))) AS call
  FROM otel_traces LEFT JOIN (SELECT SpanId AS id, any(Attributes['farcall.server.duration_ns']) AS late FROM span_joins GROUP BY id) AS j
    ON j.id = SpanId)
"""

_WAITING = (
    "SELECT JoinKey FROM sights WHERE State != 'client' GROUP BY JoinKey "
    "HAVING countIf(State IN ('joined', 'kept')) = 0 LIMIT 1"
)
# Clients' rows that were given up because their server's sight was kept, or about to be.
_LOST = """
SELECT sum(lost) AS n FROM (SELECT max(JSONExtractUInt(Status, 'counters', 'client_sights_late_lost')) AS lost
  FROM component_status WHERE Kind = 'exporter' GROUP BY Name)
"""
# Who has committed anything of the flow since the third came.
_SHARES = "SELECT Name, count() AS n FROM component_status WHERE Kind = 'exporter' AND JSONExtractUInt(Status, 'counters', 'rows_received') >= 0 GROUP BY Name"  # fmt: skip


def ask(fleet: Fleet, sql: str) -> list[dict[str, Any]]:
    client = connect(fleet.store, "reader")
    try:
        return list(client.query(sql).named_results())
    finally:
        client.close()


@pytest.mark.timeout(600)  # what a killed one waited with is waited for, for up to four minutes
@pytest.mark.parametrize(
    ("first", "comes", "killed", "ended"),
    [((ONE, TWO), THREE, TWO, ONE), ((ONE,), TWO, ONE, None)],
    ids=["two-three-one", "one-two-one"],
)
def test_a_call_is_one_joined_span_while_exporters_come_and_go(
    first: tuple[str, ...], comes: str, killed: str, ended: str | None, tmp_path: Path
) -> None:
    """Every twentieth request is read by its server together with other bytes, so that only its bytes tell whose it is."""
    with running_fleet(tmp_path) as fleet:
        fleet.start(*first)
        flow = Flow()
        with two_agents(fleet, [*first]) as agents:
            caller, server = agents
            is_away = threading.Event()

            def send(begin: int, end: int) -> None:
                """Now the one end is heard of first, now the other."""
                for at in range(begin, end, FLUSH):
                    of_client, of_server = flow.make(at, FLUSH)
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

            send(0, CALLS // 4)
            fleet.start(comes)
            find(caller, *first, comes)  # at different moments, as agents do by DNS
            send(CALLS // 4, CALLS // 4 + 2 * FLUSH)
            find(server, *first, comes)
            send(CALLS // 4 + 2 * FLUSH, CALLS // 2)
            time.sleep(3 * EPOCH_NS / NS)  # now the new one takes part
            send(CALLS // 2, CALLS * 3 // 4)
            shares = [row["n"] for row in ask(fleet, _SHARES)]
            is_away.set()
            fleet.end(killed, signal.SIGKILL)
            send(CALLS * 3 // 4, CALLS * 3 // 4 + FLUSH)
            if ended is not None:
                fleet.end(ended, signal.SIGTERM)
            send(CALLS * 3 // 4 + FLUSH, CALLS * 3 // 4 + 2 * FLUSH)
            find(server, comes)
            send(CALLS * 3 // 4 + 2 * FLUSH, CALLS * 3 // 4 + 3 * FLUSH)
            find(caller, comes)
            is_away.clear()
            send(CALLS * 3 // 4 + 3 * FLUSH, CALLS)
            told = [agent.dispatcher.counters() for agent in agents]
        # Until nothing waits any more: also what the killed one waited with is taken over.
        wait_until(lambda: not ask(fleet, _WAITING), within_s=240)
        [found] = ask(fleet, _JOINED)
        [lost] = ask(fleet, _LOST)
    print(found, lost, shares, told)
    assert len(shares) == len(first) + 1
    assert found["n"] == found["spans"] == found["calls"] == found["joined"] + found["servers"]
    assert found["calls"] + lost["n"] >= CALLS
    assert found["false_joins"] == 0
    assert not [n for t in told for n in t if n.endswith(("_dropped", "_lost"))]
