"""How many calls a span stands for, as OpenTelemetry's tracestate says it: `ot=th:THRESHOLD;rv:RANDOM` (probability sampling).

Both are of 56 bits. A span is there because its random number reached the threshold, so it stands for
2^56 / (2^56 - threshold) calls; without a threshold for itself alone.

Two things leave calls out. Agents do, each exchange by itself, to stay below their CPU ceiling; and `capture.sampling` does,
whole traces by the random part of their ID. What an agent took says nothing of the trace's ID, so that

    random = T + (1 - T) R        T: the agent's threshold, R: the trace's random part, both as parts of one

is as evenly spread above T as R is above 0, is the same for all spans of a trace under one T, and reaches T + (1 - T) S exactly
when R reaches S. So one number stands for both, and whoever samples further on by it keeps traces whole.
"""

import re

import numpy as np
import pyarrow as pa

from farcall.exchange import LEFT_OUT_SHIFT
from farcall_exporter.columns import Coded, Codes

VALUES = 1 << 56
_DIGITS = 14
_STATE = re.compile(r"ot=th:([0-9a-f]{1,14});rv:[0-9a-f]{14}")


def read_randomness(trace_id: str) -> int:
    """The part of a trace ID that is random by W3C Trace Context Level 2: its last 56 bits."""
    return int(trace_id[-_DIGITS:], 16)


def render_state(by_agent: int, by_trace: int, randomness: int) -> str:
    """`by_agent`, `by_trace`: thresholds of either; `randomness` of the trace. Without any threshold there is no state."""
    left = VALUES - by_agent
    threshold = by_agent + (left * by_trace >> 56)
    if not threshold:
        return ""
    digits = f"{threshold:014x}".rstrip("0")  # so says the specification
    return f"ot=th:{digits};rv:{by_agent + (left * randomness >> 56):014x}"


def read_threshold(state: str) -> int:
    """0 where there is none of ours."""
    match = _STATE.fullmatch(state)
    return int(match[1].ljust(_DIGITS, "0"), 16) if match else 0


def render_states(flags: Codes, trace_ids: pa.Array, linked: Coded) -> pa.Array:
    """The column TraceState of spans as agents sent them. `linked`: the traces that they are linked to, which decide for them."""
    by_agent = (flags >> LEFT_OUT_SHIFT) << (56 - 16)
    states = [""] * len(flags)
    rows = np.flatnonzero(by_agent)
    if len(rows):
        own, others = trace_ids.to_pylist(), [*linked.texts(), None]
        for row in rows.tolist():
            trace = others[int(linked.codes[row])] or own[row]
            states[row] = render_state(int(by_agent[row]), 0, read_randomness(trace))
    return pa.array(states, pa.string())
