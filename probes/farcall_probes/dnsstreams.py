"""Answers over TCP that their client reads in portions: one record each, put together here.

Bounded: a client that never reads on holds one place of MAX_OPEN, and the kernel tells a message in eight portions at most.
"""

from collections import OrderedDict

MAX_OPEN = 256  # messages that were begun; a portion is 1,760 bytes at most


class DnsStreams:
    def __init__(self, *, max_open: int = MAX_OPEN) -> None:
        self._open: OrderedDict[int, bytearray] = OrderedDict()  # by connection
        self._max_open = max_open
        self.dropped = 0  # portions without a beginning, and messages given up

    def take(
        self, conn_id: int, offset: int, size: int, more: bool, data: bytes
    ) -> tuple[bytes, bool] | None:
        """The message of `size` bytes, and whether bytes of it are missing; None while there is more to come."""
        if not offset:
            if not more:
                return data, len(data) < size
            if self._open.pop(conn_id, None) is not None:
                self.dropped += 1
            self._begin(conn_id, data)
            return None
        known = self._open.pop(conn_id, None)
        if known is None:
            self.dropped += 1
            return None
        if len(known) != offset:  # a portion was lost, or did not fit into its record
            return bytes(known), True
        known += data
        if more:
            self._open[conn_id] = known
            return None
        return bytes(known), len(known) < size

    def _begin(self, conn_id: int, data: bytes) -> None:
        self._open[conn_id] = bytearray(data)
        if len(self._open) > self._max_open:
            self._open.popitem(last=False)
            self.dropped += 1
