"""The store's HTTP interface against the real client: run on every upgrade of the client or the engine."""

import base64
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, StreamFailureError

from support_store import StoreProcess, connect, running_store

pytestmark = pytest.mark.servers

NASTY = [
    r"\bfoo\d+",
    "tab\there",
    "line\nbreak",
    "\\N",
    'it\'s "quoted" `back`',
    "%41+ &=;#",
    "😀 é ß",
    "\x01\x1f",
    "",
    "{x:String}",
    "' OR 1=1 --",
    "\r\n--boundary\r\n",
    "a\\",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with running_store(tmp_path_factory.mktemp("store")) as process:
        yield process


@pytest.fixture(scope="module")
def reader(store: StoreProcess) -> Any:
    return connect(store, "reader")


@pytest.fixture(scope="module")
def admin(store: StoreProcess) -> Any:
    return connect(store, "admin")


@pytest.mark.parametrize("user", ["reader", "writer", "admin"])
def test_each_user_connects_and_reads(store: StoreProcess, user: str) -> None:
    client = connect(store, user)

    assert client.query("SELECT 1 AS one").result_rows == [(1,)]
    assert client.ping()


@pytest.mark.parametrize(
    ("user", "password"), [("reader", "wrong"), ("default", "x"), ("nobody", "x")]
)
def test_a_wrong_password_or_user_is_code_516(
    store: StoreProcess, user: str, password: str
) -> None:
    with pytest.raises(ClickHouseError) as caught:
        connect(store, user, password=password)

    assert caught.value.code == 516


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("filler", [0, 100_000])
def test_a_string_parameter_arrives_exactly(reader: Any, text: str, filler: int) -> None:
    """The longer one travels as a form."""
    value = text + "y" * filler

    rows = reader.query(
        "SELECT {x:String} AS x, {list:Array(String)} AS list", {"x": value, "list": [text, "z"]}
    ).result_rows

    assert rows[0][0] == value
    assert list(rows[0][1]) == [text, "z"]


def test_parameters_also_arrive_by_get(store: StoreProcess) -> None:
    secret = base64.b64encode(f"reader:{store.password('reader')}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=10)
    query = urlencode(
        {"query": "SELECT {x:String} AS x", "param_x": "a+b %", "default_format": "JSON"}
    )
    connection.request("GET", f"/?{query}", headers={"Authorization": f"Basic {secret}"})

    answer = json.loads(connection.getresponse().read())
    connection.close()

    assert answer["data"] == [{"x": "a+b %"}]


def test_the_user_may_come_in_headers(store: StoreProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=10)
    headers = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": store.password("reader")}
    connection.request("POST", "/", body="SELECT 42", headers=headers)

    assert connection.getresponse().read() == b"42\n"
    connection.close()


def test_nothing_answers_without_a_password_but_ping(store: StoreProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=10)
    for path, status in (("/ping", 200), ("/?query=SELECT+1", 403), ("/metrics", 404)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


OUTSIDE = [
    "SET max_threads = 1",
    "USE system",
    "SELECT 1 SETTINGS max_threads = 1",
    "SELECT 1; SELECT 2",
    "SELECT * FROM file('/etc/passwd', 'TSV', 'a String')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM merge('system', '.*')",
    "SELECT 1 INTO OUTFILE '/tmp/farcall-outfile'",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "DROP TABLE otel_logs",
    "SYSTEM FLUSH LOGS",
]


@pytest.mark.parametrize("statement", OUTSIDE)
@pytest.mark.parametrize("user", ["reader", "writer"])
def test_what_is_outside_the_subset_is_code_48(
    store: StoreProcess, user: str, statement: str
) -> None:
    with pytest.raises(DatabaseError) as caught:
        connect(store, user).command(statement)

    assert caught.value.code == 48


def test_sessions_are_code_48(store: StoreProcess) -> None:
    client = connect(store, "reader", autogenerate_session_id=True)

    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT 1")

    assert caught.value.code == 48


_WALL = """
import sys
from pathlib import Path
from farcall_store.engine import Engine, EngineError, run
from farcall_store.roles import Limits, reader_settings
engine = Engine(Path(sys.argv[1]), memory_bytes=1 << 30)
engine.connect(["CREATE DATABASE farcall"])
handle = engine.connect(reader_settings(Limits()))
for statement in sys.stdin.read().split("\\n"):
    try:
        run(handle, statement)
        print("ran", statement)
    except EngineError as e:
        print(e.code)
"""


def test_the_engine_itself_refuses_a_reader_that_got_past_the_fence(tmp_path: Path) -> None:
    """No HTTP here: a handle pinned like a reader's, in a process of its own."""
    attempts = [
        "SET max_memory_usage = 0",
        "SET readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT * FROM file('/etc/passwd', 'TSV', 'a String')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String')",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
        "SYSTEM SHUTDOWN",
    ]

    done = subprocess.run(
        [sys.executable, "-c", _WALL, str(tmp_path / "wall")],
        input="\n".join(attempts),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert set(done.stdout.split("\n")) - {""} <= {"164", "497"}


def test_memory_and_result_limits_hold_and_the_store_goes_on(reader: Any) -> None:
    for statement, code in (
        ("SELECT groupArray(toString(number)) FROM numbers(100000000)", 241),
        ("SELECT number FROM numbers(2000000)", 396),
    ):
        with pytest.raises(DatabaseError) as caught:
            reader.query(statement)
        assert caught.value.code == code
    assert reader.query("SELECT 1").result_rows == [(1,)]


def test_errors_carry_the_engines_code(reader: Any) -> None:
    for statement, code in (
        ("SELECT nothing", 47),
        ("SELECT * FROM nothing", 60),
        ("SELECT 1 FROM", 62),
        ("SELECT throwIf(1)", 395),
    ):
        with pytest.raises(DatabaseError) as caught:
            reader.query(statement)
        assert caught.value.code == code


def test_a_stream_gives_every_row(reader: Any) -> None:
    with reader.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        total = sum(row[0] for block in stream for row in block)

    assert total == 300_000 * 299_999 // 2


def test_a_stream_that_breaks_says_so(reader: Any) -> None:
    statement = "SELECT throwIf(number = 600000), number FROM numbers(700000)"

    with pytest.raises((StreamFailureError, DatabaseError)) as caught:
        with reader.query_row_block_stream(statement) as stream:
            for _ in stream:
                pass

    assert "throwIf" in str(caught.value)


def test_arrow_comes_whole_with_nanoseconds(reader: Any) -> None:
    table = reader.query_arrow(
        "SELECT fromUnixTimestamp64Nano(toInt64(1700000000123456789)) AS t, 'é' AS s, map('a', 'b') AS m"
    )

    assert table["t"].cast(pa.int64()).to_pylist() == [1_700_000_000_123_456_789]
    assert table["s"].to_pylist() == ["é"]
    assert table["m"].to_pylist() == [[("a", "b")]]


def test_an_empty_result_is_empty(reader: Any) -> None:
    assert reader.query("SELECT 1 AS a WHERE 0").result_rows == []
    assert reader.query("SELECT 1 AS a LIMIT 0").column_names == ("a",)


def test_what_a_failed_query_left_behind_reaches_nobody(store: StoreProcess) -> None:
    """The engine keeps a failed statement's rows in its handle and would put them before the next answer."""
    client = connect(store, "reader")
    for _ in range(12):  # more than there are handles
        with pytest.raises(DatabaseError):
            client.query("SELECT throwIf(number = 600000), number FROM numbers(700000)")

        assert client.query("SELECT 7 AS seven").result_rows == [(7,)]


def test_a_client_that_goes_away_has_its_query_killed(store: StoreProcess, admin: Any) -> None:
    secret = base64.b64encode(f"reader:{store.password('reader')}".encode()).decode()
    body = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    head = (
        f"POST /?query_id=leaver HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {secret}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection(("127.0.0.1", store.port)) as client:
        client.sendall(head.encode())
        wait_for_queries(admin, 1)
    wait_for_queries(admin, 0)


def wait_for_queries(admin: Any, number: int) -> None:
    deadline = time.monotonic() + 9  # under the reader's own limit, which would end it too
    while True:
        rows = admin.query(
            "SELECT count() FROM system.processes "
            "WHERE startsWith(query, concat('/* farcall ', 'leaver.')) AND NOT is_cancelled"
        ).result_rows
        if rows == [(number,)]:
            return
        assert time.monotonic() < deadline, f"queries running: {rows}"
        time.sleep(0.05)


def test_an_administrator_may_check_and_alter(admin: Any) -> None:
    assert admin.command("CHECK TABLE otel_logs") is not None
    admin.command("OPTIMIZE TABLE otel_logs")
    assert "otel_traces" in admin.command("SHOW TABLES")
