"""The worker: acknowledged after commit, retries harmless, a store that is down or refuses, a queue that is full."""

import threading
from collections.abc import Mapping

import pytest

from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_exporter import statusbook
from farcall_exporter.asgi import Answer
from farcall_exporter.ingest import agent_component
from farcall_exporter.marks import WRITE_EVERY_S
from farcall_exporter.pipeline import OK, BusyError, Pipeline
from support_exporter import (
    BOOT,
    OTHER_BOOT,
    Clock,
    FakeWriter,
    batch,
    exchange,
    identified,
    make_context,
    seen_from_server,
    wait_until,
)
from support_status import make_agent_status

pytestmark = pytest.mark.unit


def make(writer: FakeWriter | None = None) -> tuple[Pipeline, FakeWriter, Clock]:
    clock, writer = Clock(), writer or FakeWriter()
    return Pipeline(writer, make_context(clock=clock)), writer, clock


def finish(pipeline: Pipeline) -> None:
    pipeline.start()
    assert pipeline.stop(60)


def test_a_batch_is_acknowledged_after_its_commit_and_marked() -> None:
    pipeline, writer, _ = make()
    assert pipeline.take_batch(batch([exchange()], number=5)) == OK

    assert len(writer.rows("spans")) == 1
    finish(pipeline)
    assert writer.marks == {BOOT: 5}
    assert {token for token, _ in writer.tokens} == {f"{BOOT}:5"}


def test_a_known_number_is_acknowledged_and_not_written() -> None:
    pipeline, writer, _ = make()
    for number in (1, 2, 2, 1, 7, 7):  # with a gap
        assert pipeline.take_batch(batch([exchange()], number=number)) == OK

    assert len(writer.rows("spans")) == 3
    assert pipeline.context.counters.read()["batches_repeated"] == 3


def test_numbers_that_overtake_each_other_lose_nothing() -> None:
    pipeline, writer, _ = make()
    for number in (2, 1, 4, 3):
        assert pipeline.take_batch(batch([exchange()], number=number)) == OK

    assert len(writer.rows("spans")) == 4
    finish(pipeline)
    assert writer.marks == {BOOT: 4}


def test_the_marks_of_all_agents_are_written_together_and_not_with_each_batch() -> None:
    written: list[dict[str, int]] = []

    class Noting(FakeWriter):
        def set_high_water(self, numbers: Mapping[str, int]) -> None:
            written.append(dict(numbers))

    pipeline, _, clock = make(Noting())
    pipeline.start()

    def take(number: int, boot: str) -> None:
        body = batch([exchange()], number=number, boot=boot)
        assert pipeline.submit(lambda: pipeline.take_batch(body), 1).result(20) == OK

    take(1, BOOT)
    wait_until(lambda: written == [{BOOT: 1}])
    take(2, BOOT)
    take(7, OTHER_BOOT)
    take(3, BOOT)
    clock.now += WRITE_EVERY_S
    wait_until(lambda: len(written) == 2)
    assert written[1] == {BOOT: 3, OTHER_BOOT: 7}
    assert pipeline.stop(60)
    assert len(written) == 2


def test_the_mark_outlives_the_exporter_and_counts_for_its_boot_alone() -> None:
    pipeline, writer, _ = make(FakeWriter(marks={BOOT: 9}))
    assert pipeline.take_batch(batch([exchange()], number=9)) == OK
    assert writer.rows("spans") == []
    assert pipeline.take_batch(batch([exchange()], number=9, boot=OTHER_BOOT)) == OK
    assert len(writer.rows("spans")) == 1


def test_a_store_that_is_down_is_a_503_and_the_batch_counts_later() -> None:
    pipeline, writer, clock = make(FakeWriter(fail_with=[StoreUnavailableError("down")]))
    body = batch([exchange()], number=1)
    pipeline.start()

    def post() -> Answer:
        return pipeline.submit(lambda: pipeline.take_batch(body), 1).result(20)

    answer = post()
    assert answer.status == 503
    assert ("retry-after", "2") in answer.headers
    assert post().status == 503  # a pause, in which the store is left alone
    assert writer.writes == 1

    clock.now += 2
    assert post() == OK
    assert pipeline.stop(60)
    assert len(writer.rows("spans")) == 1


def test_what_keeps_the_store_from_taking_anything_is_told_until_it_takes_something() -> None:
    full = StoreUnavailableError("the disk is full")
    pipeline, _, clock = make(FakeWriter(fail_with=[full, full]))
    body = batch([exchange()], number=1)

    def take() -> None:
        pipeline.take_batch(body)

    take()
    assert pipeline.store_trouble == ""  # it may be a restart
    clock.now += 11
    assert pipeline.store_trouble == "the disk is full"
    take()
    clock.now += 2
    take()
    assert pipeline.store_trouble == ""


def test_after_a_lost_answer_the_retry_hands_over_the_very_same_rows() -> None:
    """In between, the sight that the first attempt had joined must not become a span."""
    writer = FakeWriter()
    pipeline, _, clock = make(writer)
    client = identified()
    assert pipeline.take_batch(batch([seen_from_server(client)], number=1)) == OK
    writer.fail_after_write = [StoreUnavailableError("the answer is lost")]
    body = batch([client], number=2)
    assert pipeline.take_batch(body).status == 503
    clock.now += 60
    due, _ = pipeline.context.waiting.take_due(clock.now, hold_s=5, may_report=lambda sight: False)
    assert pipeline.take_batch(body) == OK

    assert due == []
    [span] = writer.rows("spans")
    assert span["SpanAttributes"]["farcall.join"] == "exact"


def test_a_batch_that_the_store_refuses_is_given_up_after_three_attempts() -> None:
    pipeline, _, _ = make(FakeWriter(fail_with=[StoreRefusedError("no")] * 3))
    body = batch([exchange()], number=1)
    assert [pipeline.take_batch(body).status for _ in range(3)] == [503, 503, 422]
    assert pipeline.take_batch(batch([exchange()], number=2)) == OK
    assert pipeline.context.counters.read()["batches_given_up_lost"] == 1


def test_a_bad_batch_is_refused_and_the_next_one_is_taken() -> None:
    pipeline, writer, _ = make()
    answer = pipeline.take_batch(b"rubbish")
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert b"Arrow" in answer.body
    assert pipeline.take_batch(batch([exchange()], number=1)) == OK
    assert len(writer.rows("spans")) == 1


def test_a_mark_that_cannot_be_written_does_not_undo_the_commit() -> None:
    class NoMarks(FakeWriter):
        def set_high_water(self, numbers: Mapping[str, int]) -> None:
            raise StoreUnavailableError("not now")

    pipeline, writer, _ = make(NoMarks())
    body = batch([exchange()], number=1)
    assert [pipeline.take_batch(body), pipeline.take_batch(body)] == [OK, OK]
    assert len(writer.rows("spans")) == 1
    finish(pipeline)
    assert pipeline.context.counters.read()["high_water_failures"] == 1


def test_a_full_queue_refuses_at_once_and_what_is_queued_is_finished_at_the_end() -> None:
    pipeline, _, _ = make()
    gate = threading.Event()

    def slow() -> Answer:
        gate.wait(60)
        return OK

    pipeline.start()
    futures = [pipeline.submit(slow, 1)]
    with pytest.raises(BusyError):
        for _ in range(1_000):
            futures.append(pipeline.submit(slow, 1))
    assert 60 <= len(futures) <= 66
    gate.set()
    assert pipeline.stop(60)

    assert [future.result(1) for future in futures] == [OK] * len(futures)
    with pytest.raises(BusyError):
        pipeline.submit(slow, 1)


def test_too_many_queued_bytes_refuse_as_well() -> None:
    pipeline, _, _ = make()
    pipeline.submit(lambda: OK, 100 * 1024 * 1024)
    with pytest.raises(BusyError):
        pipeline.submit(lambda: OK, 100 * 1024 * 1024)


def test_a_job_or_a_task_that_fails_does_not_end_the_worker() -> None:
    pipeline, _, _ = make()
    calls: list[float] = []

    def bad_task(now: float) -> None:
        calls.append(now)
        raise RuntimeError("a fault")

    def bad_job() -> Answer:
        raise RuntimeError("a fault")

    pipeline.add_task(bad_task)
    pipeline.start()
    assert pipeline.submit(bad_job, 1).result(20).status == 500
    assert pipeline.submit(lambda: OK, 1).result(20) == OK
    wait_until(lambda: len(calls) >= 2)
    assert pipeline.stop(60)
    assert pipeline.context.counters.read()["internal_errors"] >= 3


def test_the_pause_ends_even_while_requests_keep_coming() -> None:
    pipeline, writer, clock = make(FakeWriter(fail_with=[StoreUnavailableError("down")]))
    body = batch([exchange()], number=1)
    for _ in range(20):
        try:
            pipeline.take_batch(body)
        except StoreUnavailableError:
            pass
        clock.now += 0.1

    assert len(writer.rows("spans")) == 1


def test_a_status_for_which_there_is_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statusbook, "MAX_STATUSES", 1)
    pipeline, _, _ = make()
    for node in ("a", "a", "b"):
        pipeline.write_status(agent_component(make_agent_status(node=node)))

    assert pipeline.context.counters.read()["status_failures"] == 1
