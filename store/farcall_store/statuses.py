"""A component's status as it lies in the store: JSON of farcall.api.ComponentStatus, of whatever version wrote it."""

import json
from dataclasses import fields

from farcall.api import ComponentStatus

ALIVE_WITHIN_NS = 30 * 10**9
_KNOWN = {f.name for f in fields(ComponentStatus)}


def parse_status(text: str, now_ns: int) -> ComponentStatus:
    """Fields that this version does not know are left out: in an upgrade both versions write."""
    said = {name: value for name, value in json.loads(text).items() if name in _KNOWN}
    said["capabilities"] = tuple(said["capabilities"])
    said["alive"] = now_ns - int(said["seen_ns"]) < ALIVE_WITHIN_NS
    return ComponentStatus(**said)
