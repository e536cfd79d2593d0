"""When a batch of rows leaves the agent. Pure: the clock is the caller's."""

FLUSH_ROWS = 4096
# Between two batches: the way from exchange to page may take 2 s in all (target P7). Three of the agent's takes.
FLUSH_NS = 900_000_000


class Pace:
    """The first batch leaves at once, and so does one after a quiet time; under load two are FLUSH_NS apart, or FLUSH_ROWS long.

    A batch costs the exporter a commit, whatever is in it: one that is behind must not get them at the same pace, so then they
    are long ones only.
    """

    def __init__(self) -> None:
        self._due_ns = 0

    def take(self, rows: int, now_ns: int, *, is_behind: bool) -> bool:
        """Whether the `rows` that wait are to leave now; the caller lets them go then."""
        leaves = rows >= FLUSH_ROWS or (rows > 0 and now_ns >= self._due_ns and not is_behind)
        if leaves:
            self._due_ns = now_ns + FLUSH_NS
        return leaves
