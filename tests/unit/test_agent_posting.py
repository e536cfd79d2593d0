"""Answers of HTTP/1 in all the shapes that servers and proxies between give them; what is none is said so, and nothing is read on."""

import io
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.posting import MAX_ANSWER_BYTES, AnswerError, PostLink, read_answer

pytestmark = pytest.mark.unit

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("raw", "status", "body", "is_last_word"),
    [
        (WHOLE, 200, b"{}", True),
        (b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + WHOLE, 200, b"{}", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"), 200, b"{}", False),
        (WHOLE.replace(b"1.1", b"1.0"), 200, b"{}", False),
        (WHOLE.replace(b"1.1 200 OK", b"1.0 200 OK\r\nConnection: keep-alive"), 200, b"{}", True),
        (b"HTTP/1.1 503 Busy\r\n\r\nlater", 503, b"later", False),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nlater", 503, b"later", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nT: u\r\n\r\n", 200, b"{}", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", 200, b"{", False),
    ],
)  # fmt: skip
def test_an_answer_is_read_to_its_end(
    raw: bytes, status: int, body: bytes, is_last_word: bool
) -> None:
    stream = io.BufferedReader(io.BytesIO(raw + (b"next" if is_last_word else b"")))
    read = read_answer(stream)
    assert (read.status, read.body, read.is_last_word) == (status, body, is_last_word)
    assert not is_last_word or stream.read() == b"next"


@pytest.mark.parametrize("head", ["Content-Length: 9999", "Transfer-Encoding: chunked\r\n\r\n270f"])
def test_of_a_long_answer_no_more_is_read_than_is_wanted(head: str) -> None:
    raw = f"HTTP/1.1 500 Fault\r\n{head}\r\n".encode()
    raw += b"\r\n" if head.startswith("Content") else b""
    read = read_answer(io.BufferedReader(io.BytesIO(raw + b"x" * 9999)))
    assert read.body == b"x" * MAX_ANSWER_BYTES and not read.is_last_word


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_what_is_no_answer_is_told_from_one(raw: bytes) -> None:
    with pytest.raises(AnswerError):
        read_answer(io.BufferedReader(io.BytesIO(raw)))


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_nothing_else_is_raised_whatever_comes(noise: bytes, at: int) -> None:
    try:
        read_answer(io.BufferedReader(io.BytesIO(WHOLE[:at] + noise)))
    except (AnswerError, ConnectionResetError):
        pass


def test_one_connection_serves_until_it_is_closed_and_then_another_does(tmp_path: Path) -> None:
    asked: list[tuple[int, bytes]] = []

    def serve(server: socket.socket) -> None:
        for number, answers in enumerate((2, 1)):
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                for _ in range(answers):
                    head = b"".join(iter(stream.readline, b"\r\n"))
                    asked.append((number, head + stream.read(4)))
                    connection.sendall(WHOLE)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        port = server.getsockname()[1]
        link = PostLink(f"http://exporter:{port}", "127.0.0.1", tmp_path / "none")
        answers = [link.post("/p", "text/plain", b"body", "secret") for _ in range(3)]
        thread.join(30)
        link.close()

    assert [answer.status for answer in answers] == [200] * 3
    assert [number for number, _ in asked] == [0, 0, 1]
    head, _, body = asked[0][1].partition(b"Authorization: Bearer secret\r\n")
    assert body == b"body" and head.splitlines() == [
        b"POST /p HTTP/1.1",
        b"Host: exporter:%d" % port,
        b"Content-Type: text/plain",
        b"Content-Length: 4",
    ]


def test_where_nobody_listens_nothing_has_arrived(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = PostLink(f"http://127.0.0.1:{port}", None, tmp_path / "none").post("/", "a", b"", "t")
    assert answer.status == 0 and not answer.may_have_arrived and "refused" in answer.detail
