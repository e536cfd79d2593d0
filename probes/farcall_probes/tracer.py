"""One drain of records → rows, evidence, and answers for the cache. No network, no waiting: the loop around it is agent.py.

Order matters: DNS answers first, then heads, then exchanges, so that an answer is known before the connect that used it.
"""

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall.dnscache import Answer, Binding
from farcall.effective import EffectiveConfig
from farcall.exchange import BatchKind
from farcall_probes import arraysets, batches, events, records
from farcall_probes.arrowstream import Batch
from farcall_probes.batches import DnsRow, ExchangeRows
from farcall_probes.bindings import Bindings
from farcall_probes.capture import Drained, Records
from farcall_probes.clocks import Offsets
from farcall_probes.connections import Connections, Places, keys_of
from farcall_probes.dnsreading import DnsReader
from farcall_probes.evidence import Evidence
from farcall_probes.giveway import give_way, in_pieces
from farcall_probes.heads import Heads
from farcall_probes.identity import Identities, Identity, Seen
from farcall_probes.newcomers import Newcomers
from farcall_probes.policy import Policy
from farcall_probes.reading import Reader, read_status
from farcall_probes.resolvers import address_text, speaks_for_all
from farcall_probes.rests import ANSWERED, Ended, Rests, split_rests
from farcall_probes.segments import Segments
from farcall_probes.streamrows import Exchanges, select
from farcall_probes.streams import Streams
from farcall_probes.unanswered import Unanswered
from farcall_probes.wire import dns
from farcall_probes.wire.dns import DnsAnswer

NS = 1_000_000_000
MAX_DNS_ROWS = 32_768  # between two flushes; answers beyond are remembered, but not reported
_NO_ADDRESS: tuple[tuple[bytes | None, int], ...] = ((None, 0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheWrites:
    answers: list[Answer]
    bindings: list[Binding]


class Tracer:
    """`dns_lost_ns`: when DNS records were last known to be lost (monotonic), 0 for never; the loop sets it."""

    def __init__(
        self,
        config: EffectiveConfig,
        *,
        identities: Identities,
        policy: Policy,
        offsets: Offsets,
        watched_since_ns: int,
        trusted: frozenset[bytes],
        node_netns: int = 0,  # inode of the node's network namespace; 0: not known
    ) -> None:
        self.node_netns = node_netns
        self._identities = identities
        self._policy = policy
        self.offsets = offsets
        self._watched_since_ns = watched_since_ns  # monotonic
        self.evidence = Evidence()
        self.connections = Connections()
        self._newcomers = Newcomers(self.connections, identities, policy, self.evidence)
        self.bindings = Bindings()
        self._heads = Heads()
        self._streams = Streams()
        self._dns_reader = DnsReader()
        self._segments, self._unanswered, self.rests = Segments(), Unanswered(), Rests()
        self._rows = ExchangeRows()
        self._new_connections: list[int] = []  # their places
        self._dns_rows: list[DnsRow] = []
        self._answers: list[Answer] = []
        self._counters: Counter[str] = Counter()
        self._retired: Counter[str] = Counter()  # of readers that a new config replaced
        self._ttl_ns, self.dns_lost_ns = 0, 0
        self.configure(config, trusted)

    def configure(self, config: EffectiveConfig, trusted: frozenset[bytes]) -> None:
        """Takes a config, at start and when it changed."""
        if hasattr(self, "_reader"):
            self._retired.update(self._reader.counters())
        self._reader: Reader = Reader(
            masking=config.capture.masking, headers=config.capture.headers, heads=self._heads
        )
        self._protocols = {
            code
            for code, name in batches.PROTOCOLS.items()
            if not config.capture.protocols or name in config.capture.protocols
        }
        self._is_wanted = arraysets.mark(self._protocols)
        self._ttl_ns = config.dns.effective_ttl_s * NS
        lives_differently = self.bindings.configure(
            self._ttl_ns, hold=config.dns.hold_while_connected
        )
        self._trusted = trusted
        self._keep_anew()
        if lives_differently:
            # Bindings are written anew at the next use.
            self.connections.rows["written_ns"][self.connections.places] = 0

    def _keep_anew(self) -> None:
        rows, places = self.connections.rows, self.connections.places
        identities = self.connections.identities.values
        of_identities = np.array([self._policy.keeps(i) for i in identities], dtype=np.bool_)
        kept = of_identities[rows["identity"][places]]
        newly = kept & ~rows["kept"][places]
        self._new_connections += places[newly].tolist()  # nobody was told of them until now
        rows["kept"][places] = kept
        for row in rows[places[~kept]]:
            self._policy.learn(int(row["cgroup_id"]), identities[row["identity"]])

    # ---- in ---------------------------------------------------------------------------------------------------

    def take(self, drained: Drained, *, now_ns: int) -> None:
        if not self._rows.rows and not self._new_connections:
            self.connections.settle()
        if len(drained.dns):
            self._take_dns(drained.dns, now_ns)
        if len(drained.heads):
            self._heads.add(drained.heads)
        give_way()
        small, rests = split_rests(drained.small)
        for block in (small, drained.large):
            if len(block):
                self._take_records(block, now_ns)
        if len(drained.frames):
            self._take_streams(self._streams.take(drained.frames), now_ns)
        self.rests.take(rests)
        self.take_ended(self.rests.settle(is_whole=not drained.full), now_ns)

    def _take_dns(self, block: Records, now_ns: int) -> None:
        known: dict[Seen, Identity | None] = {}
        for read in in_pieces(self._dns_reader.read(block)):
            seen = Seen._make(read.who)
            if seen not in known:
                known[seen] = self._find_wanted(seen, now_ns)
            identity = known[seen]
            if identity is None:
                self._counters["unwanted_dns"] += 1
                continue
            if read.answer is not None:
                of_node = read.netns == self.node_netns
                trusted = speaks_for_all(read.resolver, self._trusted, of_node=of_node)
                self._remember(identity, read.answer, read.resolver, read.time_ns, trusted=trusted)
            if read.is_cut:  # what lies behind the cut may have been asked for
                self.evidence.mark_lost(identity.client_key)

    def _find_wanted(self, seen: Seen, now_ns: int) -> Identity | None:
        identity = self._identities.find(seen, now_ns=now_ns)
        if self._policy.keeps(identity):
            return identity
        self._policy.learn(seen.cgroup_id, identity)
        return None

    def _remember(
        self, identity: Identity, answer: DnsAnswer, resolver: bytes, time_ns: int, *, trusted: bool
    ) -> None:
        client, name = identity.client_key, answer.question
        answered_at = (time_ns + self.offsets.unix_ns) / NS
        for address, _ in answer.addresses:
            self.evidence.add(client, address, name, time_ns, trusted=trusted)
            self._answers.append(
                Answer(
                    client_key=client,
                    ip=address_text(address),
                    name=name,
                    answered_at=answered_at,
                    trusted=trusted,
                )
            )
        self._counters["dns_answers"] += 1
        if len(self._dns_rows) >= MAX_DNS_ROWS:
            self._counters["dns_rows_dropped"] += 1
            return
        kind = dns.TYPE_NAMES[answer.question_type]
        rcode, canonical = answer.rcode, answer.canonical_name
        self._dns_rows += [
            DnsRow(time_ns, identity, resolver, name, kind, rcode, packed, ttl_s, canonical)
            for packed, ttl_s in answer.addresses or _NO_ADDRESS
        ]

    def _take_records(self, block: Records, now_ns: int) -> None:
        is_segment = block["segment"] != events.SEGMENT_NONE
        if not is_segment.any():
            # Viewed many times: what a ring gives out is packed already, and a copy of it costs a fault a page.
            self._take_exchanges(block if block.flags.c_contiguous else records.pack(block), now_ns)
            return
        if not is_segment.all():
            self._take_exchanges(records.pick(block, ~is_segment), now_ns)
        give_way()
        is_paired = is_segment & np.isin(block["proto"], Segments.PROTOCOLS)
        if is_paired.any():
            self._take_exchanges(self._segments.take(records.pick(block, is_paired)), now_ns)

    def _take_streams(self, ended: Exchanges | None, now_ns: int) -> None:
        if ended is None:
            return
        places = self._find_connections(ended.block, now_ns)
        kept = self._find_kept(places)
        rows = np.flatnonzero(kept & self._is_wanted[ended.block["proto"]])
        if len(rows) < len(ended.block):
            ended, places = select(ended, rows), places[rows]
        self._unanswered.take(ended.block["proto"], ended.columns.flags)
        columns = self._reader.mask_queries(ended.columns)
        self._rows.add(ended.block, places, columns)

    def _take_exchanges(self, block: Records | None, now_ns: int) -> None:
        if block is None:
            return
        places = self._find_connections(block, now_ns)
        give_way()
        kept = self._find_kept(places)
        self._unanswered.take(block["proto"][kept], block["flags"][kept])
        for code in self._protocols:
            rows = np.flatnonzero((block["proto"] == code) & kept)
            if len(rows):
                whole = len(rows) == len(block)
                give_way()
                part = block if whole else records.pick(block, rows)
                at = places if whole else places[rows]
                if code == events.PROTO_HTTP1:
                    self._take_http(part, at, now_ns)
                    continue
                if code in ANSWERED:
                    part, at = self.rests.hold_answers(part, at, now_ns)
                self._rows.add(part, at, self._reader.read(code, part))

    def _take_http(self, block: Records, places: Places, now_ns: int) -> None:
        statuses = read_status(block)
        give_way()
        sizes, held = self.rests.hold(block, now_ns, statuses)
        if held.any():
            give_way()
            block, places = records.pick(block, ~held), places[~held]
            sizes, statuses = sizes[~held], statuses[~held]
        if len(block):
            self._rows.add(block, places, self._reader.read_http(block, sizes, statuses))

    def take_ended(self, ended: Ended | None, now_ns: int) -> None:
        """Exchanges that were held; what the config says of them meanwhile counts."""
        if ended is None:
            return
        places = self._find_connections(ended.block, now_ns)
        kept = self._find_kept(places)
        for code in self._protocols:
            rows = np.flatnonzero(kept & (ended.block["proto"] == code))
            if len(rows):
                block, sizes = records.pick(ended.block, rows), ended.sizes[rows]
                texts = self._reader.read_ended(code, block, sizes, ended.ends_ns[rows])
                self._rows.add(block, places[rows], texts)

    def _find_kept(self, places: Places) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = self.connections.rows["kept"][places]
        self._counters["unwanted_exchanges"] += int(np.count_nonzero(~kept))
        return kept

    def _find_connections(self, block: Records, now_ns: int) -> Places:
        """Where each record's connection is."""
        give_way()
        keys = keys_of(block)
        give_way()
        places = self.connections.find(keys)
        give_way()
        missing = np.flatnonzero(places < 0)
        if len(missing):
            fresh, first, which = np.unique(keys[missing], return_index=True, return_inverse=True)
            opened, new = self.connections.add(fresh, block[missing[first]])
            since_ns = self._watched_since_ns + self.offsets.boot_ns
            self._newcomers.describe(new, now_ns, since_ns=since_ns, ttl_ns=self._ttl_ns)
            self.bindings.notice_open(self.connections, new)
            self._new_connections += opened[self.connections.rows["kept"][opened]].tolist()
            places[missing] = opened[which]
        give_way()
        self.connections.note_use(block, places)
        give_way()
        for connection in in_pieces(self.bindings.find_due(self.connections, places)):
            self.bindings.bind(connection, self.offsets.unix_ns)
        return places

    # ---- out --------------------------------------------------------------------------------------------------

    @property
    def pending_rows(self) -> int:
        return self._rows.rows + len(self._dns_rows) + len(self._new_connections)

    def take_batches(self) -> list[tuple[BatchKind, Batch]]:
        """All rows: answers first, then connections, then exchanges, as evidence should arrive before what it explains."""
        offset_ns = self.offsets.unix_ns
        out: list[tuple[BatchKind, Batch]] = []
        if self._dns_rows:
            rows, self._dns_rows = self._dns_rows, []
            out.append(("dns", batches.build_dns(rows, offset_ns=offset_ns)))
        if self._new_connections:
            new, self._new_connections = self._new_connections, []
            built = batches.build_connections(
                self.connections,
                np.array(new, dtype=np.int32),
                offset_ns=offset_ns,
                lost_dns=self._has_lost_dns,
            )
            out.append(("connections", built))
        exchanges = self._rows.take(
            self.connections, offset_ns=offset_ns, lost_dns=self._has_lost_dns
        )
        if exchanges is not None:
            out.append(("exchanges", exchanges))
        return out

    def take_cache_writes(self) -> CacheWrites | None:
        bindings = self.bindings.take()
        if not self._answers and not bindings:
            return None
        answers, self._answers = self._answers, []
        return CacheWrites(answers=answers, bindings=bindings)

    def held_answers(self) -> list[Answer]:
        """Everything remembered, for a cache that lost its memory."""
        return [
            Answer(
                client_key=h.client_key,
                ip=address_text(h.address),
                name=h.name,
                answered_at=(h.answered_ns + self.offsets.unix_ns) / NS,
                trusted=h.trusted,
            )
            for h in self.evidence.held()
        ]

    def held_bindings(self) -> list[Binding]:
        """The same for connections."""
        return self.bindings.held(self.connections.values(), self.offsets.unix_ns)

    def expire(self, now_ns: int) -> None:
        self.evidence.expire(now_ns, ttl_ns=self._ttl_ns)
        self.bindings.expire((now_ns + self.offsets.unix_ns) / NS)

    def tell_late(self, now_ns: int, limit_ns: int) -> None:
        """Requests of multiplexed protocols that have waited for longer become rows; the kernel side tells of all others."""
        self._take_exchanges(self._segments.tell_late(now_ns, limit_ns), now_ns)
        self._take_streams(self._streams.tell_late(now_ns, limit_ns), now_ns)

    def let_go(self, now_ns: int) -> None:
        """What waits for its response's end becomes rows as it stands: the agent ends."""
        self.take_ended(self.rests.let_go(), now_ns)
        self._take_streams(self._streams.let_go(), now_ns)
        self._take_exchanges(self._segments.let_go(), now_ns)

    def _has_lost_dns(self, identity: Identity) -> bool:
        lost_boot_ns = self.dns_lost_ns + self.offsets.boot_ns
        lately = time.monotonic_ns() - self.dns_lost_ns < self._ttl_ns
        in_its_time = lost_boot_ns > identity.client_started_ns and lately
        return bool(self.dns_lost_ns and in_its_time) or self.evidence.has_lost(identity.client_key)

    @property
    def in_flight(self) -> int:  # of protocols that answer out of order
        return len(self._segments) + len(self._streams)

    def counters(self) -> dict[str, int]:
        return {
            **(self._counters + self._retired + Counter(self._reader.counters())),
            **self._streams.counters,
            **self._dns_reader.counters(),
            **self._segments.counters,
            **self._unanswered.counters,
            **self.rests.counters,
            "heads_dropped": self._heads.dropped,
            "evidence_addresses_dropped": self.evidence.evicted,
            "processes_gone": self._identities.gone,
        }

    def gauges(self) -> dict[str, float]:
        return {
            "clients": self.evidence.clients,
            "client_addresses": len(self.evidence),
            "connections": len(self.connections),
            "bindings_recalled": len(self.bindings),
            "processes": len(self._identities),
            "heads_waiting": len(self._heads),
            "multiplexed_waiting": len(self._segments),
            "responses_held": len(self.rests),
            "rows_waiting": self.pending_rows,
        }
