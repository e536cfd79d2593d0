"""Cassandra's native protocol, versions 3 to 5: what is asked, by which statement or prepared number, and the server's error.

    envelope = version flags stream opcode length body           9 bytes of header, big-endian; bit 7 of version: a response

In version 5, once STARTUP is answered, envelopes travel in frames with checksums; `find_envelopes` takes them out. Statements
are returned as they are: statements.py masks them and knows what prepared ones are called. Credentials are never read.
https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v5.spec and v3, v4 beside it.
"""

from typing import NamedTuple

from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.inflating import MAX_INFLATED, inflate_lz4, inflate_snappy
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

MAX_LENGTH = 256 << 20  # of a body, by the protocol
ANSWER_INFLATED = 512  # bytes of a compressed response: what is read of it stands at its beginning
VERSIONS = (3, 4, 5)
HEADER = 9
_RESPONSE = 0x80
_COMPRESSED, _TRACED, _PAYLOAD, _WARNINGS = 1, 2, 4, 8

ERROR, STARTUP, QUERY, RESULT, PREPARE, EXECUTE, BATCH = 0x00, 0x01, 0x07, 0x08, 0x09, 0x0A, 0x0D
REQUESTS = {
    STARTUP: "STARTUP",
    0x05: "OPTIONS",
    QUERY: "QUERY",
    PREPARE: "PREPARE",
    EXECUTE: "EXECUTE",
    0x0B: "REGISTER",
    BATCH: "BATCH",
    0x0F: "AUTH_RESPONSE",
}
RESPONSES = {
    ERROR: "ERROR",
    0x02: "READY",
    0x03: "AUTHENTICATE",
    0x06: "SUPPORTED",
    RESULT: "RESULT",
    0x0C: "EVENT",
    0x0E: "AUTH_CHALLENGE",
    0x10: "AUTH_SUCCESS",
}
EVENT_STREAM = -1  # of what the server says unasked
_PREPARED, _SET_KEYSPACE = 4, 3  # kinds of a RESULT
_ERRORS = {
    0x0000: "ServerError",
    0x000A: "ProtocolError",
    0x0100: "AuthenticationError",
    0x1000: "Unavailable",
    0x1001: "Overloaded",
    0x1002: "IsBootstrapping",
    0x1003: "TruncateError",
    0x1100: "WriteTimeout",
    0x1200: "ReadTimeout",
    0x1300: "ReadFailure",
    0x1400: "FunctionFailure",
    0x1500: "WriteFailure",
    0x1600: "CdcWriteFailure",
    0x1700: "CasWriteUnknown",
    0x2000: "SyntaxError",
    0x2100: "Unauthorized",
    0x2200: "Invalid",
    0x2300: "ConfigError",
    0x2400: "AlreadyExists",
    0x2500: "Unprepared",
}


class CassandraRequest(NamedTuple):
    """`statement`: the text of QUERY, PREPARE, and a BATCH's first; `prepared`: the number that EXECUTE, or a BATCH's first, has
    instead of one."""

    operation: str  # the opcode's name
    correlation: int  # the stream
    version: int
    statement: bytes | None = None
    prepared: bytes | None = None
    executions: int = 1  # of a BATCH how many; 0 for what runs no statement
    is_compressed: bool = False
    is_statement_cut: bool = False


class CassandraResponse(NamedTuple):
    operation: str
    correlation: int
    error: str | None = None
    prepared: bytes | None = None  # the number that a PREPARE gets
    keyspace: str | None = None  # that a USE has chosen
    is_compressed: bool = False


def parse_request(
    data: bytes, *, cut: bool = False
) -> CassandraRequest | Truncated[CassandraRequest] | Outcome:
    """The request that `data` begins with; what follows it is left."""
    body = _read_header(data, REQUESTS, response=False, cut=cut)
    if isinstance(body, Outcome):
        return body
    opcode = data[4]
    request = CassandraRequest(
        operation=REQUESTS[opcode],
        correlation=int.from_bytes(data[2:4], "big", signed=True),
        version=data[0],
        executions=1 if opcode in (QUERY, EXECUTE, BATCH) else 0,
        is_compressed=bool(data[1] & _COMPRESSED),
    )
    try:
        if data[1] & _PAYLOAD:
            _skip_payload(body)
        request = _read_body(opcode, body, request)
        reaches_beyond = request.is_statement_cut
    except EndOfBytes:
        reaches_beyond = True
    if len(data) >= _end(data):
        # Of a compressed body only the beginning was unpacked; a whole one that reaches beyond its own end is none.
        return NOT_MINE if reaches_beyond and not request.is_compressed else request
    return Truncated(request) if cut else NEED_MORE


def find_correlation(data: bytes) -> int | None:
    """The stream, in requests and responses alike; EVENT_STREAM is an event's."""
    return int.from_bytes(data[2:4], "big", signed=True) if len(data) >= 4 else None


def parse_response(
    data: bytes, request: CassandraRequest | None = None, *, cut: bool = False
) -> CassandraResponse | Truncated[CassandraResponse] | Outcome:
    """A response; `request` is what it must answer, None for any."""
    body = _read_header(data, RESPONSES, response=True, cut=cut)
    if isinstance(body, Outcome):
        return body
    opcode, stream = data[4], int.from_bytes(data[2:4], "big", signed=True)
    if request is not None and stream != request.correlation:
        return NOT_MINE
    response = CassandraResponse(
        RESPONSES[opcode], stream, is_compressed=bool(data[1] & _COMPRESSED)
    )
    if opcode == ERROR:
        response = response._replace(error="error")
    try:
        _skip_extras(data[1], body)
        response = _read_answer(opcode, body, response)
    except EndOfBytes:
        if len(data) >= _end(data) and not response.is_compressed:
            return NOT_MINE
    if len(data) >= _end(data):
        return response
    return Truncated(response) if cut else NEED_MORE


def _end(data: bytes) -> int:
    return HEADER + int.from_bytes(data[5:9], "big")


def _read_header(
    data: bytes, opcodes: dict[int, str], *, response: bool, cut: bool
) -> Cursor | Outcome:
    if len(data) < HEADER:
        begins = not data or (data[0] & 0x7F in VERSIONS and bool(data[0] & _RESPONSE) == response)
        return NEED_MORE if begins and not cut else NOT_MINE
    version, flags, opcode = data[0], data[1], data[4]
    if version & 0x7F not in VERSIONS or bool(version & _RESPONSE) != response:
        return NOT_MINE
    if flags & 0xE0 or opcode not in opcodes or _end(data) - HEADER > MAX_LENGTH:
        return NOT_MINE
    if flags & _COMPRESSED:
        limit = ANSWER_INFLATED if response else MAX_INFLATED
        return Cursor(_inflate(data[HEADER : _end(data)], limit))
    return Cursor(data[: _end(data)], HEADER)


def _inflate(packed: bytes, limit: int) -> bytes:
    """STARTUP says which of the two it is, and so does the first byte: LZ4's bytes have their size before them, in four, and
    Snappy's in a varint, which is never zero."""
    if packed[:1] == b"\0":
        return inflate_lz4(packed[4:], limit)
    return inflate_snappy(packed, limit)


def _read_body(opcode: int, body: Cursor, request: CassandraRequest) -> CassandraRequest:
    """Raises EndOfBytes only where the statement's or the number's beginning is not there."""
    if opcode in (QUERY, PREPARE):
        statement, is_cut = _read_text(body)
        return request._replace(statement=statement, is_statement_cut=is_cut)
    if opcode == EXECUTE:
        return request._replace(prepared=body.take(body.uint16()))
    return _read_batch(body, request) if opcode == BATCH else request


def _read_text(body: Cursor) -> tuple[bytes, bool]:
    """A long string, and whether the capture ended first."""
    size = body.int32()
    if not 0 <= size <= MAX_LENGTH:
        raise EndOfBytes
    there = min(size, len(body.data) - body.offset)
    return body.take(there), there < size


def _read_batch(body: Cursor, request: CassandraRequest) -> CassandraRequest:
    """Its number of statements, and the first: a text of its own, or a prepared one's number."""
    body.skip(1)  # logged, unlogged, counter
    request = request._replace(executions=body.uint16())
    if body.uint8() == 0:
        statement, is_cut = _read_text(body)
        return request._replace(statement=statement, is_statement_cut=is_cut)
    return request._replace(prepared=body.take(body.uint16()))


def _skip_payload(body: Cursor) -> None:
    for _ in range(body.uint16()):
        body.skip(body.uint16())
        body.skip(max(body.int32(), 0))


def _skip_extras(flags: int, body: Cursor) -> None:
    """What may stand before a response's own body, in this order."""
    if flags & _TRACED:
        body.skip(16)
    if flags & _WARNINGS:
        for _ in range(body.uint16()):
            body.skip(body.uint16())
    if flags & _PAYLOAD:
        _skip_payload(body)


def _read_answer(opcode: int, body: Cursor, response: CassandraResponse) -> CassandraResponse:
    if opcode == ERROR:
        code = body.int32()
        return response._replace(error=_ERRORS.get(code, f"error 0x{code & 0xFFFFFFFF:04X}"))
    if opcode == RESULT:
        kind = body.int32()
        if kind == _PREPARED:
            return response._replace(prepared=body.take(body.uint16()))
        if kind == _SET_KEYSPACE:
            name = body.take(body.uint16())
            return response._replace(keyspace=name.decode("utf-8", "backslashreplace")[:64])
    return response


# Version 5's outer frames: 3 bytes (5 with LZ4) of lengths and flags, little-endian, their CRC-24, the payload, its CRC-32.
MAX_PAYLOAD = (1 << 17) - 1


class OuterFrame(NamedTuple):
    header_bytes: int
    payload_bytes: int  # as it is on the wire
    is_self_contained: bool  # whole envelopes; else a piece of one that is larger than a frame
    is_compressed: bool  # by LZ4


def _make_crc24() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1974F0B
        table.append(crc & 0xFFFFFF)
    return tuple(table)


_CRC24 = _make_crc24()


def _crc24(data: bytes) -> int:
    crc = 0x875060
    for byte in data:
        crc = ((crc << 8) ^ _CRC24[((crc >> 16) ^ byte) & 0xFF]) & 0xFFFFFF
    return crc


def parse_outer_frame(data: bytes) -> OuterFrame | Outcome:
    """The header that `data` begins with, when its checksum agrees: one of 16 million accidents does."""
    if len(data) < 6:
        return NEED_MORE
    for size in (3, 5):
        if len(data) < size + 3:
            return NEED_MORE
        if int.from_bytes(data[size : size + 3], "little") == _crc24(data[:size]):
            header = int.from_bytes(data[:size], "little")
            flag = 17 if size == 3 else 34
            # With LZ4 an uncompressed length of 0 says that the payload is as it is.
            packed = size == 5 and bool(header >> 17 & MAX_PAYLOAD)
            return OuterFrame(size + 3, header & MAX_PAYLOAD, bool(header >> flag & 1), packed)
    return NOT_MINE


def find_envelopes(data: bytes) -> list[bytes]:
    """The envelopes in frames that `data` begins with, each as far as captured; none when it is no frame.

    Of an envelope that fills several frames only the first frame's part is given.
    """
    found: list[bytes] = []
    at = 0
    while True:
        frame = parse_outer_frame(data[at:])
        if isinstance(frame, Outcome):
            return found
        start = at + frame.header_bytes
        at = start + frame.payload_bytes + 4
        payload = data[start : start + frame.payload_bytes]
        if frame.is_compressed:
            payload = inflate_lz4(payload)
        if not frame.is_self_contained:
            if payload[:1] and payload[0] & 0x7F in VERSIONS and not found:
                found.append(payload)
            continue
        inner = 0
        while len(payload) >= inner + HEADER:
            end = inner + _end(payload[inner:])
            found.append(payload[inner:end])
            inner = end
