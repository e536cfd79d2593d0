"""The cluster's identity for the rows of a batch: each endpoint's holders once, each row's time by one search over all.

Per distinct (endpoint, asked name) a look into the catalog; per row numpy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from farcall_exporter.cluster.identity import WORKLOAD_ATTRIBUTES, Identities, Identity
from farcall_exporter.cluster.timelines import Owners
from farcall_exporter.columns import Coded, Codes, Mask, group, spread
from farcall_exporter.exchanges import Ends, Ints, Owner

Entries = list[tuple[str, Coded]]

MS = 10**6
# Times in milliseconds from the earliest segment on, 34 years; above them the endpoint (a batch has at most 65,536 rows).
TIME_BITS = 40
_NOBODY: tuple[tuple[int, ...], tuple[Owners, ...]] = ((0,), ((),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """`identities[codes[i]]` is who row i means; code -1 is nobody that the cluster knows."""

    identities: list[Identity]
    codes: Codes

    @property
    def known(self) -> Mask:
        return self.codes >= 0

    @property
    def certain(self) -> Mask:
        """More than the node is known."""
        return self.known & ~self._where(lambda identity: identity.is_node)

    def only(self, mask: Mask) -> "Places":
        return Places(identities=self.identities, codes=np.where(mask, self.codes, -1))

    def take(self, rows: Codes) -> "Places":
        return Places(identities=self.identities, codes=self.codes[rows])

    def workloads(self) -> Entries:
        return workload_entries([i.workload for i in self.identities], self.codes)

    def texts(self, read: Callable[[Identity], str | None]) -> Coded:
        return spread([*(read(i) or None for i in self.identities), None], self.codes)

    def entries(self) -> Entries:
        """The attributes of the destination."""
        return [
            ("k8s.service.name", self.texts(lambda i: i.service)),
            ("k8s.namespace.name", self.texts(lambda i: i.namespace)),
            ("k8s.pod.name", self.texts(lambda i: i.pod)),
            *self.workloads(),
            ("k8s.node.name", self.texts(lambda i: i.node)),
        ]

    def _where(self, holds: Callable[[Identity], bool]) -> Mask:
        return np.array([*map(holds, self.identities), False], np.bool_)[self.codes]


def no_places(count: int) -> Places:
    return Places(identities=[], codes=np.full(count, -1, np.int64))


def find_places(
    identified: Identities, ends: Ends, at_ns: Ints, rows: Codes, asked: Coded
) -> Places:
    """Of the far ends of `rows`; `asked` is the name that each used, as long as `rows`."""
    last, groups = group(ends.peer.codes[rows], ends.peer_port[rows], asked.codes)
    addresses, names = ends.peer.texts(), [*asked.texts(), None]
    endpoints = [
        (addresses[code], port, names[name])
        for code, port, name in zip(
            ends.peer.codes[rows[last]].tolist(),
            ends.peer_port[rows[last]].tolist(),
            asked.codes[last].tolist(),
            strict=True,
        )
    ]
    catalog = identified.catalog
    with catalog.locked():
        segments = [catalog.segments(address, port) for address, port, _ in endpoints]
        if not any(segments):
            return no_places(len(rows))
        laid = [(s.starts, s.owners) if s else _NOBODY for s in segments]
        found = _search([starts for starts, _ in laid], groups, at_ns[rows])
        used, codes = np.unique(found, return_inverse=True)
        owners = [(index, who) for index, (_, many) in enumerate(laid) for who in many]
        identities = [
            identified.of(who, *endpoints[index][1:]) if who else None
            for index, who in (owners[i] for i in used.tolist())
        ]
    return _once(identities, codes.astype(np.int64))


def find_own(identified: Identities, owner: Owner, ports: Ints) -> Places:
    """Of this end of each row, by its pod's UID; `ports` are its own, 0 where it called. Once per pod and port."""
    if not owner.pod_uid.present.any():
        return no_places(len(ports))
    uids = [*owner.pod_uid.texts(), ""]
    last, groups = group(owner.pod_uid.codes, ports)
    keys = zip(owner.pod_uid.codes[last].tolist(), ports[last].tolist(), strict=True)
    with identified.catalog.locked():
        holders = [(identified.catalog.find_pod(uids[code]), port) for code, port in keys]
        identities = [identified.of((h,), port, None) if h else None for h, port in holders]
    return _once(identities, groups)


def workload_entries(workloads: list[tuple[str, str] | None], codes: Codes) -> Entries:
    """An attribute for each kind of workload that occurs."""
    kinds = {w[0] for w in workloads if w} & WORKLOAD_ATTRIBUTES.keys()
    return [
        (
            WORKLOAD_ATTRIBUTES[kind],
            spread([*(w[1] if w and w[0] == kind else None for w in workloads), None], codes),
        )
        for kind in sorted(kinds)
    ]


def _search(starts: list[tuple[int, ...]], groups: Codes, at_ns: Ints) -> Codes:
    """For each row the index of its segment, of all segments one after the other."""
    index = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    begins = np.array([start // MS for s in starts for start in s], np.int64)
    later = begins[begins > 0]
    base = int(later.min()) - 1 if len(later) else 0
    keys = (index << TIME_BITS) | _relative(begins, base)
    wanted = (groups << TIME_BITS) | _relative(at_ns // MS, base)
    found: Codes = np.searchsorted(keys, wanted, side="right") - 1
    return found


def _relative(times_ms: Ints, base: int) -> Ints:
    clipped: Ints = np.clip(times_ms - base, 0, (1 << TIME_BITS) - 1)
    return clipped


def _once(identities: list[Identity | None], codes: Codes) -> Places:
    """Each identity once; nobody is -1."""
    seen: dict[Identity, int] = {}
    again = np.array(
        [-1 if i is None else seen.setdefault(i, len(seen)) for i in identities] or [-1], np.int64
    )
    return Places(identities=list(seen), codes=again[codes] if len(codes) else codes)
