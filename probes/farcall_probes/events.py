"""The mirror of bpf/events.h: numpy layouts of the records that leave the kernel, and their constants.

Layouts are flat: the members of `struct fc_who` and `struct fc_exchange` stand beside the rest, so one column is one
view (`small["conn_id"]`). Addresses and captured bytes are opaque (`V16`, `V232`): `.tolist()` gives bytes, never a
string cut at a NUL. tests/golden has a C compiler print the offsets of events.h and compares. Nothing is parsed here.
"""

from enum import IntEnum, IntFlag

import numpy as np

STRIDE_SMALL = 512
STRIDE_LARGE = 1024
STRIDE_HEAD = 8192
STRIDE_DNS = 2048
RING_HEADER = 8

SMALL_REQ = 232
SMALL_RESP = 80
LARGE_REQ = 696
LARGE_RESP = 128
SHORT_REQ = 128  # of a LARGE record's request: how far the beginnings go that are kept of messages of HTTP/2
RESP_MORE = 224
HEAD_DATA = STRIDE_HEAD - RING_HEADER - 32
DNS_ASKED = 120
DNS_DATA = STRIDE_DNS - RING_HEADER - 128 - 24 - DNS_ASKED

PROTO_UNKNOWN = 0
PROTO_HTTP1 = 1
PROTO_REDIS = 2
PROTO_POSTGRES = 3
PROTO_MYSQL = 4
PROTO_MEMCACHED = 5
PROTO_TCP = 6
PROTO_HTTP2 = 7
PROTO_KAFKA = 8
PROTO_MONGODB = 9
PROTO_CASSANDRA = 10
PROTO_GRPC = 11
PROTO_NATS = 12
PROTO_AMQP = 13

SEGMENT_NONE = 0  # the record is a whole exchange
SEGMENT_REQUEST = 1
SEGMENT_RESPONSE = 2
SEGMENT_CLOSED = 3  # what is in flight on this connection will not be answered any more
SEGMENT_REST = 4  # of an exchange that was told: how its response went on

REST_ASKED = 0
REST_NEXT = 1  # the next request began
REST_CLOSED = 2  # nothing more can come

ENDED_NOT = 0
ENDED_BLANK = 1  # as the end of a chunked body's trailers
ENDED_CHUNKS = 2  # as the end of a chunked body
BODIES = 16  # of struct fc_body, per direction of a connection of HTTP/2
ENDED_ANSWER = 4  # as a database's answer does
ENDED_LATER = 5  # of a segment: a record without bytes tells when its message ended
ENDED_STREAM = 3  # of a segment of HTTP/2: its stream's direction

ROLE_CLIENT = 0  # this end sent the request
ROLE_SERVER = 1  # this end was asked

FLAG_TLS = 1 << 0
FLAG_PIPELINED = 1 << 1
FLAG_CUT = 1 << 2
FLAG_LATE = 1 << 3
FLAG_IDENTITY = 1 << 4
FLAG_HEAD = 1 << 5
FLAG_NO_RESPONSE = 1 << 6
FLAG_CONNECTOR = 1 << 7
FLAG_UNCONNECTED = 1 << 10

END_NONE = 0
END_CLIENT_CLOSED = 1
END_SERVER_CLOSED = 2
END_RESET = 3
END_TIMEOUT = 4
END_REFUSED = 5
END_UNREACHABLE = 6
END_CONNECT_TIMEOUT = 7
END_NO_PORT = 8
END_DENIED = 9

POLICY_DROP = 1 << 0
POLICY_KEEP = 1 << 1


class Counter(IntEnum):
    """Index into the per-CPU array of counters; enum fc_counter."""

    EVENTS = 0
    SMALL = 1
    LARGE = 2
    HEAD = 3
    DNS = 4
    SMALL_LOST = 5
    LARGE_LOST = 6
    HEAD_LOST = 7
    DNS_LOST = 8
    RESOLVED = 9
    NOT_SOCKET = 10
    CONN_LOST = 11
    READ_FAULT = 12
    ORPHAN = 13
    OVERWRITTEN = 14
    POLICY = 15
    HEALTH = 16
    IDENTITY_TORN = 17
    HEAD_CUT = 18
    NO_RESPONSE = 19
    SEGMENT = 20
    SEGMENT_LOST = 21
    SEGMENT_BEYOND_LOST = 22
    SEGMENT_RESYNC_LOST = 23
    SEGMENT_GIVEN_UP = 24
    UNCONNECTED = 25
    CONNECT_UNTOLD = 26
    TIMED_OUT = 27
    TLS = 28
    TLS_UNOWNED = 29
    TLS_LOST = 30
    CAPPED_LOST = 31
    SAMPLED_DROPPED = 32
    REST = 33
    OPENED_DROPPED = 34


COUNT_MAX = 35


class Flag(IntFlag):
    """enum fc_flag as a type, for people who print a record."""

    TLS = FLAG_TLS
    PIPELINED = FLAG_PIPELINED
    CUT = FLAG_CUT
    LATE = FLAG_LATE
    IDENTITY = FLAG_IDENTITY
    HEAD = FLAG_HEAD
    NO_RESPONSE = FLAG_NO_RESPONSE
    CONNECTOR = FLAG_CONNECTOR
    UNCONNECTED = FLAG_UNCONNECTED


_WHO = [
    ("conn_id", "<u8"),
    ("conn_open_ns", "<u8"),
    ("cgroup_id", "<u8"),
    ("proc_start_ns", "<u8"),
    ("tgid", "<u4"),
    ("tid", "<u4"),
    ("netns", "<u4"),
    ("parent_tgid", "<u4"),
    ("lport", "<u2"),
    ("rport", "<u2"),
    ("family", "u1"),
    ("pad0", "V1"),
    ("commands", "<u2"),
    ("laddr", "V16"),
    ("raddr", "V16"),
    ("comm", "S16"),
    ("cause_conn_id", "<u8"),
    ("cause_seq", "<u4"),
    ("asked_us", "<u4"),
    ("sk", "<u8"),
]

_EXCHANGE = [
    *_WHO,
    ("ts_req_ns", "<u8"),
    ("ts_resp_ns", "<u8"),
    ("req_bytes", "<u8"),
    ("resp_bytes", "<u8"),
    ("seq", "<u4"),
    ("isn_client", "<u4"),
    ("isn_server", "<u4"),
    ("request_seq", "<u4"),
    ("flags", "<u4"),
    ("req_cap", "<u2"),
    ("resp_cap", "<u2"),
    ("proto", "u1"),
    ("role", "u1"),
    ("segment", "u1"),
    ("end", "u1"),
    ("wrapped", "u1"),
    ("ended", "u1"),
    ("resp_more", "<u2"),
]

WHO = np.dtype(_WHO)
EXCHANGE = np.dtype(_EXCHANGE)
SMALL = np.dtype([*_EXCHANGE, ("req", f"V{SMALL_REQ}"), ("resp", f"V{SMALL_RESP}")])
LARGE = np.dtype([*_EXCHANGE, ("req", f"V{LARGE_REQ}"), ("resp", f"V{LARGE_RESP}")])
SHORT = np.dtype([*_EXCHANGE, ("req", f"V{SHORT_REQ}")])  # the beginning of a LARGE record
HEAD = np.dtype(
    [
        ("conn_id", "<u8"),
        ("ts_ns", "<u8"),
        ("seq", "<u4"),
        ("len", "<u4"),
        ("cap", "<u2"),
        ("part", "u1"),
        ("role", "u1"),
        ("offset", "<u4"),
        ("data", f"V{HEAD_DATA}"),
    ]
)
DNS = np.dtype(
    [
        *_WHO,
        ("ts_ns", "<u8"),
        ("len", "<u4"),
        ("cap", "<u2"),
        ("tcp", "u1"),
        ("asked_cap", "u1"),
        ("offset", "<u4"),
        ("more", "u1"),
        ("pad", "V3"),
        ("asked", f"V{DNS_ASKED}"),
        ("data", f"V{DNS_DATA}"),
    ]
)
