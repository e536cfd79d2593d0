"""How long the agent's loop sleeps, and when a batch of rows leaves. Pure: the clock is the caller's."""

# A timer, never an event: woken per record, the loop costs three times as much (measured). Looking at the rings costs 20 us,
# copying what lies there some 200; only so much must be done often, for a ring holds no more than 0.4 s of 10,000 records/s. So
# a steady load is copied every 160 ms, and a stall of 0.24 s loses nothing then. What comes suddenly comes to a ring that is
# looked at ten times a second.
SLEEP_LAST_S = 0.1
SLEEP_STEADY_S = 0.16
STEADY_FILL = 0.15
SLEEP_FIRST_S = 0.002  # below it a look costs more than it brings
BUSY_FILL = 0.4

FLUSH_ROWS = 4096
# Between two batches: the way from exchange to page may take 2 s in all (target P7). Two of the agent's takes.
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


def next_sleep_s(sleep_s: float, fill: float) -> float:
    """So that the next drain finds BUSY_FILL of the fullest ring, growing by a quarter at a time: a rule that goes back to
    the longest sleep after one quiet drain loses half of a load that fills the ring faster (measured)."""
    wanted_s = sleep_s * BUSY_FILL / fill if fill > 0 else SLEEP_LAST_S
    longest_s = SLEEP_STEADY_S if fill >= STEADY_FILL else SLEEP_LAST_S
    return min(longest_s, sleep_s * 1.25, max(SLEEP_FIRST_S, wanted_s))
