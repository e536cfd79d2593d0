"""The sender against a real HTTP server: order, what each status means, bounds, and the end."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall.envelope import BATCH_PATH, STATUS_PATH
from farcall.secretfiles import INGEST_TOKEN
from farcall_probes.sender import Batch, Sender
from support_agent import TOKEN, FakeExporter, Posted, Reply, make_secrets
from support_status import make_agent_status

pytestmark = pytest.mark.servers


@contextmanager
def sending(
    url: str, secrets: Path, *, stop_within_s: float = 3.0, **limits: int
) -> Iterator[Sender]:
    sender = Sender(
        url=url,
        secrets_dir=str(secrets),
        ca_file=None,
        make_status=make_agent_status,
        status_every_s=3600,
        **limits,
    )
    sender.start()
    try:
        yield sender
    finally:
        sender.stop(stop_within_s)


def batch(number: int, size: int = 10) -> Batch:
    return Batch(kind="exchanges", number=number, rows=2, payload=b"%d:" % number + b"x" * size)


def numbers(posted: list[Posted]) -> list[int]:
    return [int(p.body.split(b":")[0]) for p in posted if p.path == BATCH_PATH]


def wait(condition: "object", within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_batches_arrive_in_order_with_the_token(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path / "s")
    with FakeExporter() as exporter:
        with sending(exporter.url, secrets) as sender:
            for n in range(1, 6):
                sender.put(batch(n))
            exporter.wait_for(lambda p: len(numbers(p)) == 5)
        assert numbers(exporter.posted) == [1, 2, 3, 4, 5]
        assert sender.counters()["sent_exchanges"] == 10
        assert {p.authorization for p in exporter.posted} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_batch_that_can_never_be_taken_is_dropped_and_counted(
    tmp_path: Path, status: int
) -> None:
    def script(posted: Posted) -> Reply:
        return Reply(status=status if posted.body.startswith(b"1:") else 200)

    with (
        FakeExporter(script) as exporter,
        sending(exporter.url, make_secrets(tmp_path / "s")) as sender,
    ):
        sender.put(batch(1))
        sender.put(batch(2))
        exporter.wait_for(lambda p: 2 in numbers(p))
        wait(lambda: sender.counters().get("sent_exchanges") == 2)
        assert sender.counters()["refused_exchanges_dropped"] == 2
        assert numbers(exporter.posted) == [1, 2]


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=500),
        Reply(status=503, headers={"Retry-After": "0"}),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(hang_up=True),
        Reply(status=302),
    ],
)
def test_a_fault_keeps_the_batch_and_the_order(tmp_path: Path, refusal: Reply) -> None:
    faults = [refusal, refusal]

    def script(posted: Posted) -> Reply:
        return faults.pop() if faults and posted.path == BATCH_PATH else Reply()

    with (
        FakeExporter(script) as exporter,
        sending(exporter.url, make_secrets(tmp_path / "s")) as sender,
    ):
        sender.put(batch(1))
        sender.put(batch(2))
        wait(lambda: sender.counters().get("sent_exchanges") == 4)
        assert list(dict.fromkeys(numbers(exporter.posted))) == [1, 2]


def test_a_wrong_token_is_read_anew(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path / "s")
    new = "n" * 40

    def script(posted: Posted) -> Reply:
        return Reply(status=200 if posted.authorization == f"Bearer {new}" else 401)

    with FakeExporter(script) as exporter, sending(exporter.url, secrets) as sender:
        sender.put(batch(1))
        exporter.wait_for(lambda p: bool(numbers(p)))
        (secrets / INGEST_TOKEN).write_text(new)
        wait(lambda: sender.counters().get("sent_exchanges") == 2)


def test_the_oldest_goes_when_the_queue_is_full(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path / "s")
    with sending(
        "http://127.0.0.1:9", secrets, stop_within_s=0.2, max_queue_bytes=1_000, max_queue_batches=5
    ) as sender:
        for n in range(1, 8):
            sender.put(batch(n))
        assert sender.gauges()["queue_batches"] == 5
        sender.put(batch(8, size=900))
        assert sender.gauges() == {"queue_batches": 5, "queue_bytes": pytest.approx(950, abs=20)}
    # What could not be sent in time is counted as well: every row is somewhere.
    assert sender.counters()["queue_exchanges_dropped"] == 16


def test_an_exporter_that_comes_up_later_gets_what_waited(tmp_path: Path) -> None:
    with FakeExporter() as placeholder:
        url = placeholder.url
    secrets = make_secrets(tmp_path / "s")
    with sending(url, secrets) as sender:
        sender.put(batch(1))
        wait(lambda: sender.counters().get("send_failures", 0) > 0)
        with FakeExporter(port=int(url.rpartition(":")[2])) as exporter:
            exporter.wait_for(lambda p: numbers(p) == [1])


def test_the_status_goes_out_while_batches_wait(tmp_path: Path) -> None:
    def script(posted: Posted) -> Reply:
        return Reply(
            status=503 if posted.path == BATCH_PATH else 200, headers={"Retry-After": "60"}
        )

    with FakeExporter(script) as exporter:
        sender = Sender(
            url=exporter.url,
            secrets_dir=str(make_secrets(tmp_path / "s")),
            ca_file=None,
            make_status=make_agent_status,
            status_every_s=0.05,
        )
        sender.put(batch(1))
        sender.start()
        exporter.wait_for(
            lambda p: [x.path for x in p].count(STATUS_PATH) >= 3 and bool(numbers(p))
        )
        sender.stop(0.2)
        status = next(p for p in exporter.posted if p.path == STATUS_PATH)
    assert json.loads(status.body)["node"] == "n1"


def test_stopping_sends_what_is_queued(tmp_path: Path) -> None:
    with FakeExporter() as exporter:
        secrets = make_secrets(tmp_path / "s")
        with sending(exporter.url, secrets, stop_within_s=30.0) as sender:
            for n in range(1, 30):
                sender.put(batch(n))
        assert numbers(exporter.posted) == list(range(1, 30))
