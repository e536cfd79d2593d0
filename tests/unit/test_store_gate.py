"""What the store's interface lets through, by words alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_store.gate import RefusedStatementError, classify
from farcall_store.roles import Role

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "select count() from otel_logs where Body = {x:String}",
        "WITH 1 AS a SELECT a",
        "SELECT name, value, readonly FROM system.settings LIMIT 10000",
        "EXPLAIN indexes = 1 SELECT 1",
        "DESCRIBE TABLE otel_logs",
        "/* a comment */ SELECT 'it''s; \\' fine' -- really\n",
        "SELECT `Links.TraceId`, {a:Array(String)} FROM otel_traces;",
        "SELECT number FROM numbers(10)",
    ],
)
def test_a_reading_statement_passes_for_every_role(text: str) -> None:
    for role in Role:
        assert classify(text, role).insert is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "SET max_threads = 1",
        "USE system",
        "SELECT 1; SELECT 2",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT * FROM file('/etc/passwd', 'TSV', 'a String')",
        "SELECT * FROM FILE ('/etc/passwd')",
        "SELECT * FROM `file`('/etc/passwd')",
        "SELECT * FROM url/**/('http://127.0.0.1/', 'TSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM Python(reader)",
        "SELECT * FROM t, executable('id', 'TSV', 'a String')",
        "INSERT INTO otel_logs FORMAT Native\n",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
        "DROP TABLE otel_logs",
        "ALTER TABLE otel_logs DELETE WHERE 1",
        "SYSTEM SHUTDOWN",
        "KILL QUERY WHERE 1",
        "SELECT 1 FORMAT Parquet",
        "SELECT 'unclosed",
        "SELECT /* unclosed",
        "SELECT $$heredoc$$",
        "EXPLAIN INSERT INTO x SELECT 1",
        "SELECT é",
    ],
)
def test_anything_else_is_refused_for_a_reader(text: str) -> None:
    with pytest.raises(RefusedStatementError):
        classify(text, Role.READER)


def test_a_format_clause_is_taken_off_the_statement() -> None:
    statement = classify("SELECT 1\n FORMAT Native", Role.READER)

    assert (statement.sql, statement.fmt) == ("SELECT 1", "Native")


def test_an_insert_is_taken_apart() -> None:
    text = (
        "INSERT INTO otel_logs (`Body`, `Events.Name`) SETTINGS insert_deduplication_token='a:1' FORMAT arrowstream\n"
        "rows"
    )

    insert = classify(text, Role.WRITER).insert

    assert insert is not None
    assert insert.into == "otel_logs (`Body`, `Events.Name`)"
    assert (insert.token, insert.fmt) == ("a:1", "ArrowStream")
    assert text[insert.data_start :] == "rows"


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO x SELECT 1",
        "INSERT INTO x SELECT * FROM url('http://a') FORMAT Native\n",
        "INSERT INTO x VALUES (1)",
        "INSERT INTO FUNCTION file('x') FORMAT Native\n",
        "INSERT INTO FUNCTION FORMAT Native\n",
        "INSERT INTO x FROM INFILE '/etc/passwd' FORMAT Native\n",
        "INSERT INTO x SETTINGS readonly=0 FORMAT Native\n",
        "INSERT INTO x SETTINGS insert_deduplication_token='a''; DROP' FORMAT Native\n",
        "INSERT INTO x (a) (b) FORMAT Native\n",
        "INSERT INTO x (f(a)) FORMAT Native\n",
        "INSERT INTO x FORMAT CSV\n",
        "INSERT INTO x FORMAT Native rows",
        "INSERT INTO FORMAT Native\n",
        "DROP TABLE x",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
    ],
)
def test_a_writer_may_insert_rows_and_nothing_more(text: str) -> None:
    with pytest.raises(RefusedStatementError):
        classify(text, Role.WRITER)


def test_an_administrator_may_change_tables_but_reach_no_file() -> None:
    assert classify("ALTER TABLE otel_logs DROP PARTITION '2026-01-01'", Role.ADMIN).verb == "ALTER"
    for text in (
        "SELECT 1 INTO OUTFILE 'x'",
        "CREATE TABLE x ENGINE = File(TSV) AS SELECT * FROM file('x')",
    ):
        with pytest.raises(RefusedStatementError):
            classify(text, Role.ADMIN)


@given(st.text(max_size=200), st.sampled_from(list(Role)))
def test_rubbish_is_refused_and_never_anything_worse(text: str, role: Role) -> None:
    try:
        classify(text, role)
    except RefusedStatementError:
        pass
