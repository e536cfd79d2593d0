"""HTTP/2 over real connections: the frames that say something arrive whole and in order at both ends, however they are cut."""

import os

import pytest

from farcall_probes.events import PROTO_HTTP2, Flag
from farcall_probes.wire import http2
from support_http2 import ACK, HELLO, PING, SETTINGS, WINDOW, Peers, data, frame, split_frames
from support_probes import CLIENT, SERVER, Watch, connection, port_of, receive
from support_segments import CLOSED, REQUEST, RESPONSE, Segment, list_segments

pytestmark = pytest.mark.bpf

TOLD = (http2.HEADERS, http2.RST_STREAM, http2.PUSH_PROMISE, http2.GOAWAY, http2.CONTINUATION)


def told(stream: bytes) -> list[bytes]:
    return [f for f in split_frames(stream) if f[3] in TOLD]


def join_parts(segments: list[Segment], kind: int) -> list[bytes]:
    """Without the empty frames of DATA, which tell of bodies: no peer sent them."""
    frames: list[bytes] = []
    for segment in segments:
        if segment.kind != kind or (segment.data[3] == http2.DATA and not segment.responses):
            continue
        if segment.responses == 0:  # where in its frame it begins
            frames.append(segment.data)
        else:
            assert len(frames[-1]) == segment.responses
            frames[-1] += segment.data
    return frames


def check(watch: Watch, peers: Peers) -> list[Segment]:
    """Both ends have exactly what was sent."""
    port = port_of(peers.pair)
    for role in (CLIENT, SERVER):
        segments = [s for s in list_segments(watch, port, role=role) if s.kind != CLOSED]
        for kind in (REQUEST, RESPONSE):
            assert join_parts(segments, kind) == told(peers.sent[kind])
            seqs = [s.seq for s in segments if s.kind == kind]
            assert seqs == list(range(len(seqs)))
        assert {s.proto for s in segments} == {PROTO_HTTP2}
        assert {Flag(s.flags) & (Flag.CUT | Flag.LATE) for s in segments} <= {Flag(0)}
    return list_segments(watch, port)


def test_frames_that_say_something_are_segments_and_the_others_are_stepped_over(
    watch: Watch,
) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO, peers.ask(1) + data(1, 100))
        peers.send(RESPONSE, SETTINGS + ACK, peers.answer(1) + data(1, 3_000, end=True))
        peers.send(REQUEST, ACK + WINDOW, peers.ask(3), PING)
        peers.send(RESPONSE, PING + peers.answer(3, 404) + data(3, 20_000, end=True))
        segments = check(watch, peers)

    starts = [
        (s.kind, s.request_seq, int(s.record["isn_client"]))
        for s in segments
        if s.flags & Flag.IDENTITY and s.kind != CLOSED
    ]
    assert len(starts) >= 6 and all(starts.count(s) == 2 for s in starts[2:])


def test_a_preface_that_is_read_apart_begins_a_connection(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        pair.client.sendall(HELLO + peers.ask(1))
        receive(pair.server, 24)
        receive(pair.server, len(HELLO) - 24 + len(told(Peers(pair).ask(1))[0]))
        peers.sent[REQUEST] = HELLO + Peers(pair).ask(1)
        peers.send(RESPONSE, SETTINGS, peers.answer(1))
        check(watch, peers)


def test_a_frame_cut_anywhere_arrives_whole(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        peers.send(RESPONSE, SETTINGS)
        for cut in range(1, 40):
            stream = 2 * cut + 1
            asked = peers.ask(stream) + data(stream, 30)
            peers.send(REQUEST, asked[:cut], asked[cut:])
            answered = data(1, 10) + peers.answer(stream) + data(stream, 10)
            peers.send(RESPONSE, answered[:cut], answered[cut:])
        check(watch, peers)


def test_bytes_that_come_one_by_one_are_put_together(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        asked = data(1, 20) + peers.ask(3) + WINDOW
        peers.send(REQUEST, *(asked[at : at + 1] for at in range(len(asked))))
        segments = check(watch, peers)

    assert len([s for s in segments if s.kind == REQUEST]) == 2


@pytest.mark.parametrize("size", [600, 824, 825, 2_000, 9_000])
def test_a_long_head_arrives_in_parts(watch: Watch, size: int) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        long = peers.ask(1, ("authorization", "~" * size)) + data(1, 10)
        peers.send(REQUEST, long, peers.ask(3))
        long = peers.ask(5, ("x-other", "~" * size)) + data(1, 10)
        peers.send(REQUEST, *(long[at : at + 300] for at in range(0, len(long), 300)))
        check(watch, peers)


def test_a_hundred_requests_of_one_call_are_all_told(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        peers.send(RESPONSE, SETTINGS)
        streams = range(1, 160, 2)
        peers.send(REQUEST, b"".join(peers.ask(s) + data(s, 5) for s in streams))
        peers.send(RESPONSE, b"".join(peers.answer(s) + data(s, 5) for s in streams))
        check(watch, peers)

    assert watch.count("segment_beyond_lost") == 0


@pytest.mark.parametrize("size", [3, 9, 20, 100])
def test_a_message_of_many_pieces_is_walked_to_its_end(watch: Watch, size: int) -> None:
    """gRPC's C core writes each frame's header and payload as pieces of their own, some dozens a call."""
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        for stream in (1, 11):
            call = b"".join(peers.ask(stream + 2 * n) + data(stream, 30) for n in range(3))
            pieces = [call[at : at + size] for at in range(0, len(call), size)]
            assert os.writev(pair.client.fileno(), pieces) == len(call)
            room = [bytearray(len(p)) for p in pieces]
            assert pair.server.recvmsg_into(room)[0] == len(call)
            peers.sent[REQUEST] += call
        check(watch, peers)


def test_a_hundred_answers_of_one_call_are_told_though_each_header_is_a_piece(watch: Watch) -> None:
    """As servers of Java's gRPC and of its C core write what is ready when their loop turns."""
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        peers.send(RESPONSE, SETTINGS)
        streams = range(1, 200, 2)
        for s in streams:
            peers.send(REQUEST, peers.ask(s) + data(s, 5))
        call = b"".join(peers.answer(s) + data(s, 7) + peers.answer(s) for s in streams)
        pieces = [
            p
            for f in split_frames(call)
            for p in (f[: http2.HEADER_BYTES], f[http2.HEADER_BYTES :])
        ]
        assert os.writev(pair.server.fileno(), pieces) == len(call)
        assert receive(pair.client, len(call)) == call
        peers.sent[RESPONSE] += call
        check(watch, peers)

    assert watch.count("segment_beyond_lost") == 0


@pytest.mark.parametrize("cut", [9, 1_000])
def test_a_hundred_answers_are_told_where_both_ends_have_hundreds_of_pieces(
    watch: Watch, cut: int
) -> None:
    """Frames are pieces of their own, some of them empty at the reader's end, or DATA's header and its payload are."""
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO)
        peers.send(RESPONSE, SETTINGS)
        pieces: list[bytes] = []
        for stream in range(1, 201, 2):
            body = data(stream, 20)
            pieces += [peers.answer(stream), body[:cut], body[cut:]]
            pieces.append(peers.headers(RESPONSE, stream, [("grpc-status", "0")], flags=5))
        call = b"".join(pieces)
        assert os.writev(pair.server.fileno(), [p for p in pieces if p]) == len(call)
        room = [bytearray(len(p)) for p in pieces]
        assert pair.client.recvmsg_into(room)[0] == len(call)
        for role in (CLIENT, SERVER):
            segments = list_segments(watch, port_of(pair), role=role)
            answers = [s for s in segments if s.kind == RESPONSE]
            assert b"".join(s.data for s in answers) == b"".join(told(call))
            assert [s.seq for s in answers] == list(range(100))

    assert watch.count("segment_beyond_lost") == 0


def test_bytes_that_no_hook_sees_do_not_shift_the_place(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO, peers.ask(1))
        peers.send(RESPONSE, SETTINGS)
        body = os.memfd_create("body")
        os.write(body, b"x" * 16_000)
        peers.send(RESPONSE, peers.answer(1) + frame(http2.DATA, 0, 1, b"x" * 16_000)[:9])
        assert os.sendfile(pair.server.fileno(), body, 0, 16_000) == 16_000
        os.close(body)
        receive(pair.client, 16_000)
        peers.sent[RESPONSE] += b"x" * 16_000
        peers.send(RESPONSE, peers.answer(3))
        check(watch, peers)


def test_the_close_says_how_many_segments_there_were(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO, peers.ask(1), peers.ask(3))
        peers.send(RESPONSE, SETTINGS, peers.answer(1))
        port = port_of(pair)
    closed = [s for s in list_segments(watch, port) if s.kind == CLOSED]

    assert sorted(s.role for s in closed) == [CLIENT, SERVER]
    assert {(s.length, s.responses) for s in closed} == {(2, 1)}


def late_pair(watch: Watch, peers: Peers) -> None:
    """What the programs have seen of the connection is forgotten: as if it were older than they."""
    conns = watch.capture.maps["MAP_CONNS"]
    for key in conns.list_keys():
        conns.delete(key)
    watch.restart()


def test_a_connection_older_than_the_agent_is_known_by_its_frames_and_said_to_be_late(
    watch: Watch,
) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO, peers.ask(1))
        peers.send(RESPONSE, SETTINGS, peers.answer(1))
        late_pair(watch, peers)
        peers.sent = {REQUEST: b"", RESPONSE: b""}
        peers.send(REQUEST, peers.ask(3))
        peers.send(RESPONSE, peers.answer(3) + data(3, 10))
        peers.send(REQUEST, peers.ask(5) + data(5, 10))
        peers.send(RESPONSE, peers.answer(5, 503) + data(5, 10))
        for role in (CLIENT, SERVER):
            segments = list_segments(watch, port_of(pair), role=role)
            assert join_parts(segments, REQUEST) == told(peers.sent[REQUEST])
            assert join_parts(segments, RESPONSE) == told(peers.sent[RESPONSE])
            assert all(s.flags & Flag.LATE for s in segments)


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x00\x08\x01\x04\x00\x00\x00\x01too much more",  # more bytes than the one frame
        b"\x00\x00\x04\x01\x04\x00\x00\x00\x02even",  # a stream that no client opens
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL's SSLRequest
        b"\x00\x00\x00\x2d\x00\x03\x00\x09\x00\x00\x00\x01\x00\x07rdkafka" + b"\0" * 26,
        b"\x1f\x00\x00\x00\x00some MySQL greeting........",
    ],
)
def test_what_looks_like_a_frame_for_nine_bytes_is_not_followed(watch: Watch, first: bytes) -> None:
    with connection() as pair:
        for _ in range(3):
            pair.client.sendall(first)
            receive(pair.server, len(first))
        segments = list_segments(watch, port_of(pair))

    assert [s for s in segments if s.proto == PROTO_HTTP2] == []


def test_a_direction_that_is_lost_is_found_again_with_a_number_left_out(watch: Watch) -> None:
    with connection() as pair:
        peers = Peers(pair)
        peers.send(REQUEST, HELLO, peers.ask(1))
        peers.send(RESPONSE, SETTINGS, peers.answer(1))
        hidden = os.memfd_create("hidden")
        os.write(hidden, peers.answer(3) + data(3, 7))
        size = os.fstat(hidden).st_size
        assert os.sendfile(pair.server.fileno(), hidden, 0, size) == size
        os.close(hidden)
        receive(pair.client, size)
        peers.send(RESPONSE, peers.answer(5) + data(5, 7))
        served = list_segments(watch, port_of(pair), role=SERVER)
        client = list_segments(watch, port_of(pair), role=CLIENT)

    assert [s.seq for s in served if s.kind == RESPONSE] == [0, 2]
    assert [s.seq for s in client if s.kind == RESPONSE] == [0, 1, 2]
    assert watch.count("segment_resync_lost") == 1
