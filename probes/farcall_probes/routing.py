"""Which exporter a row goes to: rendezvous hashing of the connection's identity, so that both ends of a call meet. Pure.

Every agent scores each exporter for a connection and takes the highest; where one comes or goes, only the connections move
that it wins or had. Agents learn of a new one at different moments, so it takes part only from a moment on that all of them
reckon alike: calls that began before stay with the others, whoever reports them. One that is gone takes nothing any more, so
its connections move at once. What is parted nevertheless, the exporters join through the store.

A connection without an identity goes by its addresses and ports, either end first: the same at both ends unless translated.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall.mixing import Words, mix
from farcall_probes.arrowstream import Batch
from farcall_probes.columns import Numbers

Codes = npt.NDArray[np.int64]
NS = 10**9
# New exporters take part from a multiple of this on. Agents hear of one within DNS' time to live of each other (30 s in
# clusters as kubeadm makes them), so that few of them disagree about which multiple is next.
EPOCH_NS = 60 * NS
LEAD_NS = (
    10 * NS
)  # and not at once: who hears of it a little later must not have sent calls of the new epoch
EVER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    address: str
    since_ns: int = EVER  # calls that began earlier are not its own, Unix

    @property
    def salt(self) -> int:
        return int.from_bytes(hashlib.blake2b(self.address.encode(), digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class Members:
    """Ordered by address, so that equal lists are equal everywhere."""

    all: tuple[Member, ...] = ()

    def update(
        self, addresses: Iterable[str], now_ns: int, *, epoch_ns: int = EPOCH_NS
    ) -> "Members":
        """The list after these addresses were found. Those of the very first list take part from ever on."""
        known = {member.address: member for member in self.all}
        since_ns = ((now_ns + min(LEAD_NS, epoch_ns)) // epoch_ns + 1) * epoch_ns if known else EVER
        given = sorted(set(addresses))
        return replace(
            self, all=tuple(known.get(a) or Member(address=a, since_ns=since_ns) for a in given)
        )

    def choose(self, keys: Words, start_ns: Codes) -> Codes:
        """Index into `all` for each row; at least one member is needed."""
        salts = np.array([member.salt for member in self.all], np.uint64)
        since = np.array([member.since_ns for member in self.all], np.int64)
        scores = mix(keys[:, None] ^ salts[None, :]) | np.uint64(1)
        # Where nobody takes part yet, because all are new, everybody does.
        may: npt.NDArray[np.bool_] = np.asarray(since[None, :] <= start_ns[:, None])
        somebody = may.any(axis=1, keepdims=True)
        scores[~may & somebody] = 0
        chosen: Codes = scores.argmax(axis=1)
        return chosen

    def home(self, name: str) -> str:
        """Of what belongs to no connection: the address that `name` is sent to."""
        word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
        at = self.choose(np.array([word], np.uint64), np.array([2**62], np.int64))
        return self.all[int(at[0])].address


def read_keys(batch: Batch) -> Words:
    """One word for each row of exchanges, the same at both ends."""
    client, server = (
        read_numbers(batch, n).astype(np.uint64) for n in ("isn_client", "isn_server")
    )
    by_identity = mix((client << np.uint64(32)) | server)
    has_identity = (read_numbers(batch, "flags") & int(ExchangeFlag.IDENTITY)) != 0
    if has_identity.all():
        return by_identity
    by_ends = mix(_read_end(batch, "local") + _read_end(batch, "peer"))
    return np.where(has_identity, by_identity, by_ends)


def read_numbers(batch: Batch, name: str) -> npt.NDArray[np.unsignedinteger]:
    """A column without nulls, or with anything in their place, as it lies in memory."""
    values = _read_column(batch, name).values
    return values.view(f"u{values.dtype.itemsize}")


def _read_column(batch: Batch, name: str) -> Numbers:
    column = batch.column(name)
    assert isinstance(column, Numbers), name
    return column


def has_value(batch: Batch, name: str) -> npt.NDArray[np.bool_]:
    """Where a column is not null."""
    missing = _read_column(batch, name).missing
    return ~missing if missing is not None else np.ones(batch.rows, np.bool_)


def _read_end(batch: Batch, end: str) -> Words:
    addresses = np.ascontiguousarray(_read_column(batch, f"{end}_address").values)
    halves = addresses.view(np.uint64).reshape(-1, 2)
    port = read_numbers(batch, f"{end}_port").astype(np.uint64)
    return mix(mix(mix(halves[:, 0]) ^ halves[:, 1]) ^ port)
