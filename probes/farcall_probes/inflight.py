"""What pairing.py remembers of requests in flight, and of what ended."""

from typing import NamedTuple

from farcall_probes.capture import Records


class Connection:
    __slots__ = ("asking", "in_flight", "late", "requests", "responses")

    def __init__(self) -> None:
        self.requests = 0  # the next segment's number
        self.responses = 0
        self.in_flight: dict[int, Entry] = {}
        # The request that goes on in later calls, or all those of one packed frame; and the responses that do.
        self.asking: list[Entry] = []
        self.late: list[Late] = []


class Entry:
    """A request in flight. `at`: its record's index in this drain's block, or -1 - slot in the array of those kept."""

    __slots__ = ("asked_us", "at", "is_open", "is_patient", "ts_ns")

    def __init__(self, at: int, ts_ns: int, is_patient: bool) -> None:
        self.at = at
        self.ts_ns = ts_ns
        self.is_patient = is_patient
        self.is_open = True
        self.asked_us = 0  # to its last byte, where that came later

    def end(self, ended_ns: int) -> None:
        if ended_ns:
            self.asked_us = min(max(ended_ns - self.ts_ns, 0) // 1000, 2**32 - 1)


class Late(NamedTuple):
    """A response whose end is waited for."""

    entry: Entry
    record: Records  # of one
    ts_ns: int


class Done(NamedTuple):
    """What ended."""

    place: int  # the request's
    answer: int  # the response's index; -1: none
    ts_ns: int
    end: int = 0  # why there is no response (events.END_*)
    ended_ns: int = 0  # its last byte, where that came later
    asked_us: int = 0
