"""SQL text loses its literals and keeps its shape; what is not certainly outside of a literal is hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.sql import SqlText, find_operation, mask_sql

pytestmark = pytest.mark.unit

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        ("SELECT * FROM t WHERE id = 7", "SELECT * FROM t WHERE id = ?"),
        ("SELECT a1, t2.b FROM t2 WHERE c = $1", "SELECT a1, t2.b FROM t2 WHERE c = $1"),
        ("SELECT -1.5e-3, .5, 0x1F", "SELECT -?, ?, ?"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (?)"),
        ("SELECT * FROM t WHERE a IN (1,2, 3)", "SELECT * FROM t WHERE a IN (?)"),
        ('SELECT "Order 7" FROM x', 'SELECT "Order 7" FROM x'),
        ("SELECT 1::int -- why\n + 2 /* how */", "SELECT ?::int + ?"),
        ("SELECT now() - interval '1 day'", "SELECT now() - interval ?"),
        ("SELECT 1 /***/ + /* * / */ a /**/", "SELECT ? + a"),
        ("SET search_path TO a, DEFAULT", "SET search_path TO ?, DEFAULT"),
        ("UPDATE t SET a = b", "UPDATE t SET a = b"),
        ("", ""),
    ],
)
def test_the_shape_stays(statement: str, masked: str) -> None:
    assert mask_sql(statement) == masked


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT '{}'",
        "SELECT 'it''s {}'",
        "SELECT E'a\\'{}'",
        "SELECT 'a\\' {}'",  # where this one ends depends on the server's settings
        "SELECT $${}$$",
        "SELECT $tag$ $$ {} $tag$",
        "SELECT U&'{}', N'{}', b'{}'",
        "SELECT '{}",  # cut
        "SELECT $x$ {}",
        "SELECT 1 -- {}",
        "SELECT 1 /* {}",
        "SELECT 1 /* a /* b */ {} */",  # PostgreSQL's comments lie in each other
        "SELECT 1 /*/* a */*/ + 2 /* {} */ */",
        "SET app.token TO {}",
        "SET SESSION app.token = {}",
        "set local role to {}, other",
        "SELECT\n'a'\n'{}'",
    ],
)
def test_no_literal_is_shown(statement: str) -> None:
    assert SECRET not in mask_sql(statement.replace("{}", SECRET))


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        ('SELECT `order 7`, "hunter2" FROM t # hunter2', "SELECT `order 7`, ? FROM t"),
        ("SELECT 'it\\'s hunter2' FROM t", "SELECT ? …"),
        ('SELECT "it\\"s hunter2" FROM t', "SELECT ? …"),
        ("UPDATE t SET a = 1 WHERE b = ?", "UPDATE t SET a = ? WHERE b = ?"),
    ],
)
def test_mysqls_strings_and_comments_are_its_own(statement: str, masked: str) -> None:
    assert mask_sql(statement, "mysql") == masked


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_quoted_text_never_shows_whatever_surrounds_it(before: str, inside: str) -> None:
    """`before` may open a literal or a comment itself: hidden all the same."""
    quoted = "'" + inside.replace("\\", "").replace("'", "''") + "marker4711" + "'"
    if "'" in before or '"' in before:
        before = before.replace("'", "").replace('"', "")
    assert "marker4711" not in mask_sql(before + " " + quoted)


def test_the_operation_is_the_first_word() -> None:
    assert find_operation("  select 1") == "SELECT"
    assert find_operation("(SELECT 1) UNION (SELECT 2)") == "SELECT"
    assert find_operation("'x'") is None
    assert SqlText("postgresql", masking=True).render(b"/* app */ update t set a = 1") == (
        "update t set a = ?",
        "UPDATE",
    )


def test_without_masking_credentials_are_hidden_still() -> None:
    shown = SqlText("postgresql", masking=False)
    assert shown.render(b"SELECT 'x'")[0] == "SELECT 'x'"
    assert SECRET not in shown.render(b"ALTER ROLE a PASSWORD 'hunter2'")[0]


def test_hostile_text_is_bounded_and_printable() -> None:
    shown, operation = SqlText("postgresql", masking=True).render(
        b"SELECT \xff\x1b[31m" + b"a" * 9000
    )
    assert len(shown) <= 2048 and shown.isprintable()
    assert operation == "SELECT"
