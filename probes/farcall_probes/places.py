"""The place of a request on its connection inside TLS, by which both of its ends meet, where the protocol gives requests numbers.

A process may take many TLS records from its socket at once; the kernel side knows where the first of them began, and gives all
requests behind it one place. A number is the same at both ends, however they read. Kafka's correlation IDs and MongoDB's request
IDs come again after 2^32 requests. Cassandra's streams come again at once, so of those the kernel side says how much plaintext went
before (bpf/framing.h).
"""

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.numbering import NUMBERS, read_number

_NUMBERED = (events.PROTO_KAFKA, events.PROTO_MONGODB)


def number_sealed(block: Records, raw: npt.NDArray[np.uint8]) -> None:
    """`block`: requests whose bytes begin behind events.EXCHANGE; `raw`: the same as rows of bytes. Changed in place."""
    sealed = (block["flags"] & events.FLAG_TLS) != 0
    if not sealed.any():
        return
    for proto in _NUMBERED:
        rows = np.flatnonzero(sealed & (block["proto"] == proto))
        offset, form = NUMBERS[proto, events.SEGMENT_REQUEST]
        block["request_seq"][rows] = read_number(raw, rows, offset, form).astype(np.uint32)
