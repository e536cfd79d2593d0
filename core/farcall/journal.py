"""Structured logs of the components: one JSON line per event that a human would act on, on standard error.

`log = journal.get_log("exporter"); log.warning("store unavailable", retry_in_s=2.0, error=str(e))`. Field names are those
of the model. Secrets and captured bytes are never logged; text from the wire is cut by `MAX_VALUE`.
"""

import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from farcall.terminal import escape_text

MAX_VALUE = 1_024
MAX_TRACEBACK = 16 * 1_024


def configure(component: str, *, as_text: bool = False) -> None:
    """Called once by a component's main, before anything is logged. `as_text` is for people at a terminal."""
    structlog.configure(
        processors=[
            _add_component(component),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bound_values,
            _render_text if as_text else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_log(room: str) -> Any:
    """A logger that names the room it speaks for."""
    return structlog.get_logger(room=room)


def render_frames(error: BaseException) -> str:
    """Where it was raised and its kind, for `exception=`. Without its message: that of a fault at captured bytes may hold them."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return "".join([*frames, type(error).__name__])


def _add_component(component: str) -> Any:
    def processor(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["component"] = component
        return event

    return processor


def _render_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """A line for a person at a terminal, which must not obey what is logged; a traceback below it."""
    said = [str(event.pop(key, "")) for key in ("timestamp", "level", "component", "room", "event")]
    trace = str(event.pop("exception", "")).splitlines()
    said += [f"{key}={value}" for key, value in event.items()]
    return "\n".join([escape_text(" ".join(said)), *map(escape_text, trace)])


def _bound_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _cut_traceback(value) if key == "exception" else _cut(value)
    return event


def _cut(value: Any) -> Any:
    """`value` itself when it is short once written, else the beginning of its text."""
    if value is None or isinstance(value, bool | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def _cut_traceback(text: str) -> str:
    """The end says most: the innermost frames and the error."""
    return text if len(text) <= MAX_TRACEBACK else "…" + text[-MAX_TRACEBACK:]
