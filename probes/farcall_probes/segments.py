"""The one place that segments of all protocols but HTTP/2 go to."""

from collections import Counter

import numpy as np

from farcall_probes import records
from farcall_probes.capture import Records
from farcall_probes.channels import Channels
from farcall_probes.messages import Messages
from farcall_probes.pairing import Pairer


class Segments:
    """All protocols whose messages the kernel side ships one by one, but HTTP/2."""

    PROTOCOLS = (*Pairer.PROTOCOLS, *Messages.PROTOCOLS, *Channels.PROTOCOLS)

    def __init__(self) -> None:
        self._rooms: tuple[Pairer | Messages | Channels, ...] = (Pairer(), Messages(), Channels())

    def __len__(self) -> int:
        """What is waited for: answers, or ends."""
        return sum(map(len, self._rooms))

    def take(self, block: Records) -> Records | None:
        """As Pairer.take."""
        proto = block["proto"]
        done = []
        for room in self._rooms:
            is_own = np.isin(proto, room.PROTOCOLS)
            if is_own.all():
                return room.take(block)
            if is_own.any():
                done.append(room.take(records.pick(block, is_own)))
        return _join(*done)

    def tell_late(self, now_ns: int, limit_ns: int) -> Records | None:
        return _join(*(room.tell_late(now_ns, limit_ns) for room in self._rooms))

    def let_go(self) -> Records | None:
        return _join(*(room.let_go() for room in self._rooms))

    @property
    def counters(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for room in self._rooms:
            found.update(room.counters)
        return found


def _join(*blocks: Records | None) -> Records | None:
    found = [block for block in blocks if block is not None]
    return records.join(found) if found else None
