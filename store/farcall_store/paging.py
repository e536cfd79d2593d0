"""Windows and cursors of the lists: newest first, a page at a time, from a position that later rows do not shift."""

import base64
import binascii
import json
import time
from collections.abc import Iterator, Sequence

from farcall.api import MAX_LIMIT, Window
from farcall.storeport import StoreRefusedError
from farcall_store.search import WINDOW

MINUTE_NS = 60 * 1_000_000_000
# The engine's bucket (toStartOfFiveMinutes) is a 32-bit time: nothing of ours is later than 2100.
MAX_NS = 4_102_444_800 * 1_000_000_000
WHOLE = Window(from_ns=0, to_ns=MAX_NS)

# The newest rows are what people look for: a rare match is searched in ever longer windows instead of all at once.
# Few steps: each costs a round trip (about 5 ms) when there is little to find.
STEPS_NS = (15 * MINUTE_NS, 6 * 60 * MINUTE_NS)

# Bounds of the sort key's first column beside those of the time itself: 12 granules read instead of 255.
BOUND = (
    f"{WINDOW} AND toStartOfFiveMinutes(Timestamp) >= toStartOfFiveMinutes(fromUnixTimestamp64Nano({{from_ns:Int64}}))"
    " AND toStartOfFiveMinutes(Timestamp) <= toStartOfFiveMinutes(fromUnixTimestamp64Nano({to_ns:Int64}))"
)
PAD_NS = 5 * MINUTE_NS


def clamp(window: Window | None) -> Window:
    if window is None:
        return WHOLE
    return Window(
        from_ns=min(max(0, window.from_ns), MAX_NS), to_ns=min(max(0, window.to_ns), MAX_NS)
    )


def bind(window: Window) -> dict[str, int]:
    return {"from_ns": window.from_ns, "to_ns": window.to_ns}


def pad(first_ns: int, last_ns: int) -> Window:
    """A window around rows that were found, for what belongs to them."""
    return clamp(Window(from_ns=first_ns - PAD_NS, to_ns=last_ns + PAD_NS))


def split_newest_first(window: Window) -> Iterator[Window]:
    """The window in pieces, the newest one first, none overlapping."""
    upper, anchor = window.to_ns, min(window.to_ns, time.time_ns())
    for step in STEPS_NS:
        lower = anchor - step
        if lower <= window.from_ns:
            break
        if lower < upper:
            yield Window(from_ns=lower, to_ns=upper)
            upper = lower
    yield Window(from_ns=window.from_ns, to_ns=upper)


def widen_newest_first(window: Window, anchor_ns: int) -> Iterator[Window]:
    """Ever longer windows that all end where the given one does; the last one is the given one."""
    anchor = min(window.to_ns, anchor_ns)
    for step in STEPS_NS:
        if anchor - step > window.from_ns:
            yield Window(from_ns=anchor - step, to_ns=window.to_ns)
    yield window


def clamp_limit(limit: int) -> int:
    return max(1, min(limit, MAX_LIMIT))


def encode_cursor(parts: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> list[str | int]:
    """What `encode_cursor` was given. Raises StoreRefusedError: cursors come back from outside."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as e:
        raise StoreRefusedError("the cursor is not one that this API gave out") from e
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise StoreRefusedError("the cursor is not one that this API gave out")
    if any(isinstance(part, int) and not 0 <= part < 1 << 64 for part in parts):
        raise StoreRefusedError("the cursor is not one that this API gave out")
    return parts
