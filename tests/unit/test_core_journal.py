"""One JSON line per event, bounded, whatever is logged."""

import json
import subprocess
import sys

import pytest

from farcall.journal import MAX_TRACEBACK, MAX_VALUE

pytestmark = pytest.mark.unit


def lines_of(code: str) -> list[dict[str, object]]:
    """In a process of its own: what is configured is the process's."""
    program = f"from farcall import journal\njournal.configure('agent')\nlog = journal.get_log('wire')\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_event_is_one_json_line_on_standard_error() -> None:
    (line,) = lines_of("log.warning('store unavailable', retry_in_s=2.0, why='a\\nb\\x1b[31m')")

    assert line.pop("timestamp")
    assert line == {
        "component": "agent", "room": "wire", "level": "warning", "event": "store unavailable",
        "retry_in_s": 2.0, "why": "a\nb\x1b[31m",
    }  # fmt: skip


def test_every_value_is_bounded() -> None:
    big = "log.info('x' * 5000, text='y' * 5000, many=['z' * 5000], raw=b'w' * 5000, number=1, none=None)"
    (line,) = lines_of(big)

    for key in ("event", "text", "many", "raw"):
        assert isinstance(line[key], str)
        assert len(line[key]) == MAX_VALUE + 1
    assert (line["number"], line["none"]) == (1, None)


def test_a_short_structure_stays_one() -> None:
    (line,) = lines_of("log.info('e', rivals=['a', 'b'], counts={'lost': 1})")

    assert (line["rivals"], line["counts"]) == (["a", "b"], {"lost": 1})


def test_frames_say_where_and_what_but_not_the_message() -> None:
    code = "try: int('hunter2')\nexcept ValueError as e: log.error('fault', exception=journal.render_frames(e))"
    (line,) = lines_of(code)
    assert str(line["exception"]).endswith("ValueError") and "line" in str(line["exception"])
    assert "hunter2" not in str(line["exception"])


def test_a_traceback_keeps_its_end() -> None:
    code = (
        "def f(n):\n    if n == 0: raise ValueError('z' * 40_000 + 'the end')\n    f(n - 1)\n"
        "try: f(50)\nexcept ValueError: log.exception('failed')\n"
    )
    (line,) = lines_of(code)

    assert str(line["exception"]).endswith("the end")
    assert len(str(line["exception"])) == MAX_TRACEBACK + 1


@pytest.mark.parametrize(
    "value", ["'\\ud800'", "object()", "float('nan')", "{1: {2}}", "{(1, 2): 3}", "[[]]"]
)
def test_odd_values_do_not_break_the_line(value: str) -> None:
    assert len(lines_of(f"log.info('e', value={value})")) == 1


def test_text_for_a_terminal_is_a_line_that_the_terminal_does_not_obey() -> None:
    program = (
        "from farcall import journal\njournal.configure('operator', as_text=True)\n"
        "journal.get_log('queue').warning('failed', name='a\\nb\\x1b[31m', after_s=2.0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    (line,) = done.stderr.splitlines()
    assert "warning operator queue failed" in line
    assert "after_s=2.0" in line
    assert "\x1b" not in line


def test_an_error_that_is_given_is_told_with_its_traceback() -> None:
    code = "try: 1 / 0\nexcept ZeroDivisionError as e: error = e\nlog.error('e', exc_info=error)\nlog.error('e', exc_info=None)"
    given, without = lines_of(code)

    assert str(given["exception"]).startswith("Traceback") and "exc_info" not in given
    assert "exception" not in without


def test_a_log_that_nobody_reads_any_more_does_not_end_the_component() -> None:
    code = (
        "import os, sys\n"
        "reads, writes = os.pipe()\n"
        "os.close(reads)\n"
        "os.dup2(2, 9), os.dup2(writes, 2)\n"
        "log.info('unheard')\n"
        "os.dup2(9, 2)\n"
    )
    assert [line["event"] for line in lines_of(code + "log.info('heard')")] == ["heard"]


def test_threads_do_not_write_into_each_others_lines() -> None:
    code = (
        "from threading import Thread\n"
        "say = lambda n: [log.info('e', n=n, pad='x' * 900) for _ in range(200)]\n"
        "threads = [Thread(target=say, args=(n,)) for n in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]"
    )
    assert len(lines_of(code)) == 800
