"""The ring's reader against a ring made of a plain file: ends, wraps, records in the making and discarded ones."""

import mmap
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.events import (
    PROTO_HTTP1,
    PROTO_HTTP2,
    SEGMENT_NONE,
    SEGMENT_REQUEST,
    STRIDE_LARGE,
)
from farcall_probes.ring import LargeRing, Ring

pytestmark = pytest.mark.unit

PAGE = mmap.PAGESIZE
LAYOUT = np.dtype([("number", "<u8"), ("rest", "V496")])
STRIDE = 512
SIZE = 2 * PAGE
RECORDS = SIZE // STRIDE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Writer:
    """The kernel's side: consumer page, producer page, data, and the same data once more."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("farcall-ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.end = 0

    def put(self, number: int, flags: int = 0) -> None:
        self._write(self.end, struct.pack("<IIQ496x", LAYOUT.itemsize | flags, 0, number))
        self.end += STRIDE
        os.pwrite(self.fd, struct.pack("<Q", self.end), PAGE)

    def submit(self, position: int) -> None:
        self._write(position, struct.pack("<I", LAYOUT.itemsize))

    def _write(self, position: int, data: bytes) -> None:
        at = 2 * PAGE + position % SIZE
        os.pwrite(self.fd, data, at)
        os.pwrite(self.fd, data, at + SIZE)

    def consumed(self) -> int:
        return int(struct.unpack("<Q", os.pread(self.fd, 8, 0))[0])


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(writer: Writer) -> Iterator[Ring]:
    made = Ring(writer.fd, SIZE, LAYOUT)
    yield made
    made.close()


def read(ring: Ring, end: int | None = None) -> Records:
    ring.gather(ring.read_end() if end is None else end)
    return ring.take()


def read_all(ring: Ring) -> list[int]:
    return [int(n) for n in read(ring)["number"]]


def test_an_empty_ring_gives_nothing(ring: Ring) -> None:
    assert read_all(ring) == []
    assert ring.measure_fill() == 0


def test_records_come_once_and_in_order(ring: Ring, writer: Writer) -> None:
    for number in range(5):
        writer.put(number)

    assert ring.measure_fill() == 5 / RECORDS
    assert read_all(ring) == [0, 1, 2, 3, 4]
    assert writer.consumed() == writer.end
    assert read_all(ring) == []


def test_records_go_on_over_the_rings_end(ring: Ring, writer: Writer) -> None:
    seen = []
    for number in range(100):
        writer.put(number)
        if number % 7 == 6 or number % 5 == 4:
            seen += read_all(ring)
    seen += read_all(ring)

    assert seen == list(range(100))


def test_only_records_up_to_the_end_asked_for_are_read(ring: Ring, writer: Writer) -> None:
    writer.put(1)
    end = ring.read_end()
    writer.put(2)

    assert read(ring, end)["number"].tolist() == [1]
    assert ring.has_read_to(end)
    assert read_all(ring) == [2]


def test_a_record_in_the_making_hides_those_behind_it_until_it_is_submitted(
    ring: Ring, writer: Writer
) -> None:
    writer.put(1)
    writer.put(2, BUSY)
    writer.put(3)
    end = ring.read_end()

    assert read(ring, end)["number"].tolist() == [1]
    assert not ring.has_read_to(end)
    writer.submit(STRIDE)
    assert read(ring, end)["number"].tolist() == [2, 3]


def test_discarded_records_are_left_out(ring: Ring, writer: Writer) -> None:
    for number, flags in ((1, 0), (2, DISCARDED), (3, 0)):
        writer.put(number, flags)

    assert read_all(ring) == [1, 3]
    assert writer.consumed() == writer.end


def test_what_was_read_does_not_change_when_the_ring_moves_on(ring: Ring, writer: Writer) -> None:
    writer.put(1)
    kept = read(ring)
    for number in range(2, 2 + RECORDS):
        writer.put(number)
        read_all(ring)

    assert kept["number"].tolist() == [1]


def test_what_is_gathered_waits_until_it_is_taken_up_to_so_many(ring: Ring, writer: Writer) -> None:
    for number in range(5):
        writer.put(number, DISCARDED if number == 1 else 0)
        ring.gather(ring.read_end(), 3)

    assert ring.gathered == 3
    assert writer.consumed() == 4 * STRIDE
    assert ring.take()["number"].tolist() == [0, 2, 3]
    assert ring.gathered == 0
    assert read_all(ring) == [4]


def test_more_may_be_gathered_than_was_made_room_for(ring: Ring, writer: Writer) -> None:
    for number in range(3 * RECORDS):
        writer.put(number)
        ring.gather(ring.read_end(), 2 if number == 0 else None)

    assert ring.take()["number"].tolist() == list(range(3 * RECORDS))


def test_a_full_ring_is_read_whole_wherever_it_begins(ring: Ring, writer: Writer) -> None:
    for begin in range(RECORDS):
        numbers = list(range(begin, begin + RECORDS))
        for number in numbers:
            writer.put(number)
        assert ring.measure_fill() == 1
        assert read_all(ring) == numbers
        writer.put(0)  # so that the next begins one further
        read_all(ring)


def test_nothing_of_the_data_stays_mapped(ring: Ring, writer: Writer) -> None:
    for number in range(RECORDS):
        writer.put(number)
    kept = read(ring)

    lines = Path("/proc/self/maps").read_text().splitlines()
    offsets = [int(line.split()[2], 16) for line in lines if "farcall-ring" in line]
    assert sorted(offsets) == [0, PAGE]
    assert len(kept) == RECORDS


def test_a_ring_is_read_when_no_descriptor_is_left(ring: Ring, writer: Writer) -> None:
    writer.put(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        numbers = read_all(ring)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert numbers == [1]


def test_a_ring_whose_records_would_straddle_its_end_is_refused(writer: Writer) -> None:
    with pytest.raises(ValueError, match="stride"):
        Ring(writer.fd, SIZE, np.dtype([("number", "<u8"), ("rest", "V495")]))


LARGE_SIZE = 4 * STRIDE_LARGE


class LargeWriter(Writer):
    """Of events.LARGE, in a ring of four."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("farcall-ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * LARGE_SIZE)
        self.end = 0

    def put_record(self, record: Records) -> None:
        data = struct.pack("<II", events.LARGE.itemsize, 0) + record.tobytes()
        at = 2 * PAGE + self.end % LARGE_SIZE
        os.pwrite(self.fd, data, at)
        os.pwrite(self.fd, data, at + LARGE_SIZE)
        self.end += STRIDE_LARGE
        os.pwrite(self.fd, struct.pack("<Q", self.end), PAGE)


def make_large(number: int, req_cap: int, *, is_frame: bool) -> Records:
    record = np.zeros(1, events.LARGE)
    record["seq"], record["req_cap"] = number, req_cap
    record["req"] = bytes(range(256)) * 2 + bytes(events.LARGE_REQ - 512)
    record["proto"] = PROTO_HTTP2 if is_frame else PROTO_HTTP1
    record["segment"] = SEGMENT_REQUEST if is_frame else SEGMENT_NONE
    return record


def test_of_messages_of_http2_only_the_beginnings_are_kept_where_that_is_all() -> None:
    writer = LargeWriter()
    ring = LargeRing(writer.fd, LARGE_SIZE)
    kinds = [
        (9, True),
        (300, False),
        (128, True),
        (129, True),
        (40, False),
        (696, True),
        (10, True),
    ]
    records = [make_large(n, cap, is_frame=kind) for n, (cap, kind) in enumerate(kinds)]
    for record in records:
        writer.put_record(record)
        ring.gather(ring.read_end())

    assert ring.gathered == 2 + 3  # two messages as one
    exchanges, frames = ring.take(), ring.take_frames()
    assert exchanges.tobytes() == b"".join(records[n].tobytes() for n in (1, 4))
    short = events.SHORT.itemsize
    beginnings = [records[n].tobytes()[:short] for n in (0, 2, 3, 5, 6)]
    assert frames.data == b"".join(beginnings + [records[n].tobytes() for n in (3, 5)])
    assert len(frames) == 5
    assert ring.gathered == len(ring.take()) == len(ring.take_frames()) == 0
    ring.close()
    os.close(writer.fd)


def test_twice_as_many_messages_as_exchanges_are_gathered() -> None:
    writer = LargeWriter()
    ring = LargeRing(writer.fd, LARGE_SIZE)
    for number in range(10):
        writer.put_record(make_large(number, 9, is_frame=True))
        ring.gather(ring.read_end(), 3)

    assert ring.gathered == 3
    assert len(ring.take_frames()) == 5  # of an odd one half would be another's
    ring.close()
    os.close(writer.fd)
