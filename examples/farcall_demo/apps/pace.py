"""Does one thing again and again, and says on standard error when it failed."""

import sys
import time
from collections.abc import Callable

MAX_COMPLAINT = 300


def repeat(interval_s: float, action: Callable[[int], None]) -> None:
    """Calls `action` with 1, 2, 3, … for ever. A failed call is a line in the log: the next may work."""
    number = 0
    while True:
        number += 1
        try:
            action(number)
        except Exception as e:
            sys.stderr.write(f"{type(e).__name__}: {e}"[:MAX_COMPLAINT] + "\n")
        time.sleep(interval_s)
