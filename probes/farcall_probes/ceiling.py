"""How large a part of all exchanges the agent takes, so that it stays below its CPU ceiling. Pure: what it used goes in, a share comes out.

What costs is proportional to what is taken, above a small part that is not: so the share follows from what was used, with
slack on both sides, and comes back by a quarter at a time, since the load is not known that was left out. Nothing is left out for
a peak: a start, a large batch or the end of a burst costs seconds that leaving calls out afterwards does not bring back.
"""

LEAST = 1 / 1024  # never nothing: who looks must see that there are calls
AIM = 0.9  # of the ceiling, when it was passed
CALM = 0.7  # below so much of it the share grows
PATIENCE = 3  # so many times in a row beyond the ceiling, before anything is left out
GROWTH = 1.25  # CALM times this stays below AIM: what grew is not cut again for that


class Ceiling:
    """`share` is in force until the next `note`."""

    def __init__(self) -> None:
        self.share = 1.0
        self._beyond = 0  # so many times in a row until now

    def note(self, used: float, limit: float) -> float:
        """The new share. `used` and `limit` in cores, over a time since the share was set; a limit of 0: none."""
        self._beyond = self._beyond + 1 if 0 < limit < used else 0
        if limit <= 0:
            self.share = 1.0
        elif used > limit:
            if self.share == 1 and self._beyond < PATIENCE:
                return self.share
            # Halved at most: what was used may be a peak on top of it.
            self.share = max(LEAST, self.share * max(0.5, AIM * limit / used))
        elif used < CALM * limit:
            self.share = min(1.0, self.share * GROWTH)
        return self.share
