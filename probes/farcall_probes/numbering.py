"""What messages of Kafka, MongoDB and Cassandra say of themselves at fixed places: read for a whole drain at once.

The number by which a response meets its request, and whether one is to be waited for, and for how long.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.records import as_bytes
from farcall_probes.wire import kafka
from farcall_probes.wire.outcomes import Outcome, Truncated

_HEAD = events.EXCHANGE.itemsize
_PATIENT_APIS = (11, 14)  # of Kafka: JoinGroup, SyncGroup
_MORE_TO_COME = 2  # MongoDB's OP_MSG: no answer follows
_OP_MSG = 2013
_SILENT_OPCODES = (2001, 2002, 2006, 2007)  # of before OP_MSG: update, insert, delete, killCursors


# Where the numbers stand: (protocol, kind) → offset, type
NUMBERS: dict[tuple[int, int], tuple[int, str]] = {
    (events.PROTO_KAFKA, events.SEGMENT_REQUEST): (8, ">i4"),
    (events.PROTO_KAFKA, events.SEGMENT_RESPONSE): (4, ">i4"),
    (events.PROTO_MONGODB, events.SEGMENT_REQUEST): (4, "<i4"),
    (events.PROTO_MONGODB, events.SEGMENT_RESPONSE): (8, "<i4"),
    (events.PROTO_CASSANDRA, events.SEGMENT_REQUEST): (2, ">i2"),
    (events.PROTO_CASSANDRA, events.SEGMENT_RESPONSE): (2, ">i2"),
}


def read_number(
    raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp], offset: int, form: str
) -> npt.NDArray[np.signedinteger]:
    """Of these records a number of type `form`, so many bytes behind their fixed part."""
    at = _HEAD + offset
    width = np.dtype(form).itemsize
    return np.ascontiguousarray(raw[rows, at : at + width]).view(form)[:, 0]


def read_numbers(
    block: Records,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of each segment the number that pairs it, whether it is a request that nobody answers, and one whose answer takes time."""
    raw = as_bytes(block)
    numbers = np.zeros(len(block), dtype=np.int64)
    silent = np.zeros(len(block), dtype=np.bool_)
    patient = np.zeros(len(block), dtype=np.bool_)
    protos, kinds = block["proto"], block["segment"]
    for (proto, kind), (offset, form) in NUMBERS.items():
        rows = np.flatnonzero((protos == proto) & (kinds == kind))
        if not len(rows):
            continue
        numbers[rows] = read_number(raw, rows, offset, form)
        if kind == events.SEGMENT_REQUEST and proto in _FIND_SILENT:
            silent[rows] = _FIND_SILENT[proto](block, raw, rows)
        if kind == events.SEGMENT_REQUEST and proto == events.PROTO_KAFKA:
            patient[rows] = np.isin(read_number(raw, rows, 4, ">i2"), _PATIENT_APIS)
    return numbers, silent, patient


FindSilent = Callable[[Records, npt.NDArray[np.uint8], npt.NDArray[np.intp]], npt.NDArray[np.bool_]]


def _find_silent_mongodb(
    block: Records, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    opcodes = read_number(raw, rows, 12, "<i4")
    more = (raw[rows, _HEAD + 16] & _MORE_TO_COME) != 0
    is_read = block["req_cap"][rows] > 16
    silent: npt.NDArray[np.bool_] = (opcodes == _OP_MSG) & more & is_read
    return silent | np.isin(opcodes, _SILENT_OPCODES)


def _find_silent_kafka(
    block: Records, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Produce with acks=0, which stands behind strings: only such requests are parsed."""
    silent = np.zeros(len(rows), dtype=np.bool_)
    is_produce = (raw[rows, _HEAD + 4] | raw[rows, _HEAD + 5]) == 0
    for at in np.flatnonzero(is_produce).tolist():
        row = int(rows[at])
        data = raw[row, _HEAD : _HEAD + int(block["req_cap"][row])].tobytes()
        request = kafka.parse_request(data, cut=True)
        if isinstance(request, Truncated):
            request = request.partial
        silent[at] = not isinstance(request, Outcome) and not request.is_answered
    return silent


_FIND_SILENT: dict[int, FindSilent] = {
    events.PROTO_KAFKA: _find_silent_kafka,
    events.PROTO_MONGODB: _find_silent_mongodb,
}
