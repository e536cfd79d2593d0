"""How long answers of databases and caches are, as far as their records tell: which of them go on behind the call that was seen first.

PostgreSQL and MySQL say nothing of an answer's length: its last bytes do (bpf/rest.h). Redis and memcached say the length of a
value in front of it; several replies, or values, have none, and end with a line's end or END. The kernel side says of an answer
that its first call has all of it where that is sure; of the others only those with a length are sure before the next request, or
before nothing came for a while.
"""

import re

import numpy as np

from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.responses import End, Measured
from farcall_probes.wire import memcached, redis

ANSWERED = (
    events.PROTO_POSTGRES,
    events.PROTO_MYSQL,
    events.PROTO_REDIS,
    events.PROTO_MEMCACHED,
)
_MYSQL_ALONE = (0x00, 0xFB, 0xFF)  # OK, the request for a file, an error
_FIELDS = events.LARGE.fields
_RESPONSE_AT = _FIELDS["resp"][1] if _FIELDS else 0
_BULK = re.compile(rb"[$!=]([0-9]{1,9})\r\n")  # RESP: a string, an error or a text with its format
_META = re.compile(rb"VA ([0-9]{1,10})(?: [^\r\n]*)?\r\n")
_BINARY, _BINARY_HEADER = 0x81, 24


def measure_answers(block: Records) -> Measured:
    """Of these records, of protocols of ANSWERED."""
    whole = (block["ended"] == events.ENDED_ANSWER) | (
        block["flags"] & events.FLAG_NO_RESPONSE != 0
    )
    if block.dtype == events.SMALL:
        return _measure_small(block, whole)
    is_mysql = block["proto"] == events.PROTO_MYSQL
    if is_mysql.any():  # an error, or one packet; only result sets go on
        first = np.ndarray(len(block), "u1", block, _RESPONSE_AT + 4, (block.dtype.itemsize,))
        whole |= is_mysql & np.isin(first, _MYSQL_ALONE)
    ends = np.where(whole, End.HERE, End.ANSWER).astype(np.uint8)
    return Measured(block["resp_bytes"].astype(np.uint64), ends)


def _measure_small(block: Records, whole: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Measured:
    sizes = block["resp_bytes"].astype(np.uint64)
    ends = np.where(whole, End.HERE, End.QUIET).astype(np.uint8)
    for row in np.flatnonzero(~whole).tolist():
        length = _find_length(block[row])
        if length:
            ends[row] = End.LENGTH
            sizes[row] = max(int(sizes[row]), length)
    return Measured(sizes, ends)


def _find_length(record: np.void) -> int:
    """Of the answer to one command; 0: it says none, or there may be several."""
    request = record["req"].tobytes()[: int(record["req_cap"])]
    answer = record["resp"].tobytes()[: int(record["resp_cap"])]
    if int(record["req_bytes"]) > len(request) or int(record["flags"]) & events.FLAG_PIPELINED:
        return 0
    if int(record["proto"]) == events.PROTO_REDIS:
        found, asked = _BULK.match(answer), redis.parse_commands(request, cut=True)
        is_one = isinstance(asked, redis.RedisCommand) and asked.commands == 1
        return found.end() + int(found[1]) + 2 if found is not None and is_one else 0
    several = memcached.parse_request(request, cut=True)
    if not isinstance(several, memcached.MemcachedRequest) or several.commands != 1:
        return 0
    if answer[:1] == bytes((_BINARY,)) and len(answer) >= _BINARY_HEADER:
        return _BINARY_HEADER + int.from_bytes(answer[8:12], "big")
    found = _META.match(answer)
    return found.end() + int(found[1]) + 2 if found is not None else 0


def widen(block: Records) -> Records:
    """Records of events.SMALL as events.LARGE."""
    if block.dtype == events.LARGE:
        return block
    wide = np.zeros(len(block), dtype=events.LARGE)
    fixed = events.EXCHANGE.itemsize
    into, raw = records.as_bytes(wide), records.as_bytes(np.ascontiguousarray(block))
    into[:, : fixed + events.SMALL_REQ] = raw[:, : fixed + events.SMALL_REQ]
    into[:, _RESPONSE_AT : _RESPONSE_AT + events.SMALL_RESP] = raw[:, fixed + events.SMALL_REQ :]
    return wide
