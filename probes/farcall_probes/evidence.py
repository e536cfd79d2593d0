"""What each client was told by DNS, and the name that a connection was opened with.

A connection's name is the newest answer *before its connect* that holds the address, given to this client. Nothing is
guessed: a connection older than the agent has no answer here, and gets none (the exporter asks Redis). Answers older
than the tier's TTL at the time of the connect do not count.

Bounded three ways: sightings of an address, addresses of a client, addresses in all (the least recently used client loses its
oldest). A client that lost any is remembered: its missing names are our loss, not its silence. Times are CLOCK_MONOTONIC ns.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SIGHTINGS = (
    16  # answers kept per client and address; a resolver asked each second fills it in 16 s
)
MAX_NAMES = 8  # distinct names per client and address, as in Redis
MAX_CLIENT_ADDRESSES = 1024
MAX_ADDRESSES = 20_000  # in all; about 500 bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """`rivals`: other names of this client that led to the address before the connect, newest first."""

    name: str
    answered_ns: int
    rivals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One name as it may be written to the cache again."""

    client_key: str
    address: bytes
    name: str
    answered_ns: int
    trusted: bool


class _Address:
    """What one client was told about one address."""

    __slots__ = ("first", "forgotten_ns", "sightings", "thinned", "trusted")

    def __init__(self) -> None:
        self.sightings: list[tuple[int, str]] = []  # (time, name), oldest first
        self.first: dict[str, int] = {}  # name → its oldest answer still within the TTL
        self.trusted: dict[str, bool] = {}
        self.forgotten_ns = (
            0  # newest sighting of a name that was given up: nothing older may be bound
        )
        self.thinned = False  # sightings were given up: an early connect may have used one of them

    def add(self, name: str, time_ns: int, *, trusted: bool) -> None:
        self.sightings.append((time_ns, name))
        if len(self.sightings) > 1 and self.sightings[-2][0] > time_ns:
            self.sightings.sort()
        if len(self.sightings) > MAX_SIGHTINGS:
            del self.sightings[0]
            self.thinned = True
        self.first.setdefault(name, time_ns)
        self.trusted[name] = trusted
        if len(self.first) > MAX_NAMES:
            stalest = min(self.first, key=self.newest)
            self.forgotten_ns = max(self.forgotten_ns, self.newest(stalest))
            self._forget_name(stalest)

    def newest(self, name: str) -> int:
        return max((t for t, n in self.sightings if n == name), default=self.first[name])

    def _forget_name(self, name: str) -> None:
        del self.first[name], self.trusted[name]
        self.sightings = [s for s in self.sightings if s[1] != name]

    def expire(self, oldest_ns: int) -> None:
        for name in [n for n in self.first if self.newest(n) < oldest_ns]:
            self._forget_name(name)
        self.sightings = [s for s in self.sightings if s[0] >= oldest_ns]
        for name, time_ns in self.first.items():
            if time_ns < oldest_ns:
                self.first[name] = self.newest(name)


class _Client:
    __slots__ = ("addresses", "lost")

    def __init__(self) -> None:
        self.addresses: OrderedDict[bytes, _Address] = OrderedDict()
        self.lost = False


class Evidence:
    def __init__(
        self,
        *,
        max_addresses: int = MAX_ADDRESSES,
        max_client_addresses: int = MAX_CLIENT_ADDRESSES,
    ) -> None:
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._max_addresses = max_addresses
        self._max_client_addresses = max_client_addresses
        self._count = 0
        self._forgetful: OrderedDict[str, None] = OrderedDict()  # clients that lost all they had
        self.evicted = 0

    def __len__(self) -> int:
        return self._count

    @property
    def clients(self) -> int:
        return len(self._clients)

    def add(
        self, client_key: str, address: bytes, name: str, time_ns: int, *, trusted: bool
    ) -> None:
        client = self._clients.get(client_key)
        if client is None:
            client = self._clients[client_key] = _Client()
        self._clients.move_to_end(client_key)
        known = client.addresses.get(address)
        if known is None:
            known = client.addresses[address] = _Address()
            self._count += 1
            if len(client.addresses) > self._max_client_addresses:
                self._evict(client)
            while self._count > self._max_addresses:
                self._evict_oldest_client_address()
        client.addresses.move_to_end(address)
        known.add(name, time_ns, trusted=trusted)

    def _evict(self, client: _Client) -> None:
        client.addresses.popitem(last=False)
        client.lost = True
        self._count -= 1
        self.evicted += 1

    def _evict_oldest_client_address(self) -> None:
        key, client = next(iter(self._clients.items()))
        self._evict(client)
        if not client.addresses:
            del self._clients[key]
            self._forgetful[key] = None
            if len(self._forgetful) > self._max_addresses:
                self._forgetful.popitem(last=False)

    def mark_lost(self, client_key: str) -> None:
        """This client was told more than could be read."""
        client = self._clients.get(client_key)
        if client is None:
            client = self._clients[client_key] = _Client()
        client.lost = True

    def has_lost(self, client_key: str) -> bool:
        """Whether answers of this client were given up to stay within bounds."""
        client = self._clients.get(client_key)
        return client_key in self._forgetful or (client is not None and client.lost)

    def bind(self, client_key: str, address: bytes, opened_ns: int, *, ttl_ns: int) -> Bound | None:
        """The name that a connect at `opened_ns` used. None: there is no answer, or it cannot be said which."""
        client = self._clients.get(client_key)
        known = client.addresses.get(address) if client is not None and opened_ns else None
        if known is None:
            return None
        oldest = opened_ns - ttl_ns
        before = [s for s in known.sightings if oldest < s[0] <= opened_ns]
        earlier = [n for n, t in known.first.items() if oldest < t <= opened_ns]
        if before:
            answered_ns, name = before[-1]
        elif known.thinned and len(earlier) == len(known.first) == 1:
            # The answer used was thinned out, but the client never knew another name of this address.
            name, answered_ns = next(iter(known.first.items()))
        else:
            return None
        if answered_ns < known.forgotten_ns:
            return None
        newest_first = [n for _, n in reversed(before)] + earlier
        rivals = tuple(n for n in dict.fromkeys(newest_first) if n != name)
        return Bound(name=name, answered_ns=answered_ns, rivals=rivals[:MAX_NAMES])

    def expire(self, now_ns: int, *, ttl_ns: int) -> None:
        """Forgets what no connect can use any more."""
        oldest = now_ns - ttl_ns
        for key, client in list(self._clients.items()):
            for address, known in list(client.addresses.items()):
                known.expire(oldest)
                if not known.first:
                    del client.addresses[address]
                    self._count -= 1
            if not client.addresses:
                del self._clients[key]

    def held(self) -> Iterator[Held]:
        """All that is held, for a cache that lost its memory."""
        for key, client in self._clients.items():
            for address, known in client.addresses.items():
                for name in known.first:
                    yield Held(
                        client_key=key,
                        address=address,
                        name=name,
                        answered_ns=known.newest(name),
                        trusted=known.trusted[name],
                    )
