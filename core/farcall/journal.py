"""Structured logs of the components: one JSON line per event that a human would act on, on standard error.

`log = journal.get_log("exporter"); log.warning("store unavailable", retry_in_s=2.0, error=str(e))`. Field names are those
of the model. Secrets and captured bytes are never logged; text from the wire is cut by `MAX_VALUE`.

Own code, and no logging library: this is all that is needed of one, and the agent would carry it on every node.
"""

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from farcall.terminal import escape_text

MAX_VALUE = 1_024
MAX_TRACEBACK = 16 * 1_024
Event = dict[str, Any]


class _Settings:
    """The process's, also of loggers that were made before `configure`."""

    component = ""
    render: Callable[[Event], str]


def configure(component: str, *, as_text: bool = False) -> None:
    """Called once by a component's main, before anything is logged. `as_text` is for people at a terminal."""
    _Settings.component = component
    _Settings.render = _render_text if as_text else _render_json


class Log:
    """Any thread may use it. `exc_info` is an error, or True for the one that is being handled."""

    def __init__(self, room: str) -> None:
        self._room = room

    def info(self, event: str, **fields: Any) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the one that is being handled."""
        self._say("error", event, {"exc_info": True, **fields})

    def _say(self, level: str, event: str, fields: Event) -> None:
        trace = _format_error(fields.pop("exc_info", None)) or str(fields.pop("exception", ""))
        line = {
            "timestamp": _format_now(),
            "level": level,
            "component": _Settings.component,
            "room": self._room,
            "event": _cut(event),
        }
        line |= {key: _cut(value) for key, value in fields.items() if key not in line}
        if trace:
            line["exception"] = _cut_traceback(trace)
        # In one piece, for lines of several threads. Who reads the log may be gone; the component works on.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(_Settings.render(line) + "\n")
            sys.stderr.flush()


def get_log(room: str) -> Log:
    """A logger that names the room it speaks for."""
    return Log(room)


def render_frames(error: BaseException) -> str:
    """Where it was raised and its kind, for `exception=`. Without its message: that of a fault at captured bytes may hold them."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return "".join([*frames, type(error).__name__])


def _format_now() -> str:
    now_ns = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
    return f"{whole}.{now_ns % 10**9 // 1000:06}Z"


def _format_error(error: BaseException | bool | None) -> str:
    if error is True:
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return ""
    return "".join(traceback.format_exception(error)).rstrip("\n")


def _render_json(event: Event) -> str:
    try:
        return json.dumps(event, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys that JSON has not, circles
        return json.dumps({key: v if isinstance(v, str) else repr(v) for key, v in event.items()})


def _render_text(event: Event) -> str:
    """A line for a person at a terminal, which must not obey what is logged; a traceback below it."""
    said = [str(event.pop(key, "")) for key in ("timestamp", "level", "component", "room", "event")]
    trace = str(event.pop("exception", "")).splitlines()
    said += [f"{key}={value}" for key, value in event.items()]
    return "\n".join([escape_text(" ".join(said)), *map(escape_text, trace)])


_Settings.render = _render_json


def _cut(value: Any) -> Any:
    """`value` itself when it is short once written, else the beginning of its text."""
    if value is None or isinstance(value, bool | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def _cut_traceback(text: str) -> str:
    """The end says most: the innermost frames and the error."""
    return text if len(text) <= MAX_TRACEBACK else "…" + text[-MAX_TRACEBACK:]
