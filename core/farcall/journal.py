"""Structured logs of the components: one JSON line per event that a human would act on, on standard error.

`log = journal.get_log("exporter"); log.warning("store unavailable", retry_in_s=2.0, error=str(e))`. Field names are those
of the model. Secrets and captured bytes are never logged; text from the wire is cut by `MAX_VALUE`.
"""

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

MAX_VALUE = 1_024


def configure(component: str) -> None:
    """Called once by a component's main, before anything is logged."""
    structlog.configure(
        processors=[
            _add_component(component),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bound_values,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_log(room: str) -> Any:
    """A logger that names the room it speaks for."""
    return structlog.get_logger(room=room)


def _add_component(component: str) -> Any:
    def processor(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["component"] = component
        return event

    return processor


def _bound_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE and key != "exception":
            event[key] = value[:MAX_VALUE] + "…"
    return event
