"""How large a part of all exchanges the agent takes, so that it stays below its CPU ceiling. Pure: what it used goes in, a share comes out.

What costs is proportional to what is taken, above a small part that is not: so the share follows from what was used, with
slack on both sides, and comes back by a quarter at a time, since the load is not known that was left out.
"""

LEAST = 1 / 1024  # never nothing: who looks must see that there are calls
AIM = 0.9  # of the ceiling, when it was passed
CALM = 0.7  # below so much of it the share grows
GROWTH = 1.25  # CALM times this stays below AIM: what grew is not cut again for that


class Ceiling:
    """`share` is in force until the next `note`."""

    def __init__(self) -> None:
        self.share = 1.0

    def note(self, used: float, limit: float) -> float:
        """The new share. `used` and `limit` in cores, over a time since the share was set; a limit of 0: none."""
        if limit <= 0:
            self.share = 1.0
        elif used > limit:
            # Halved at most: one second may be a start, or a single large batch.
            self.share = max(LEAST, self.share * max(0.5, AIM * limit / used))
        elif used < CALM * limit:
            self.share = min(1.0, self.share * GROWTH)
        return self.share
