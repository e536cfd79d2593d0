"""A small world in which names come and go: clients, connections, an agent, a Redis and an exporter, on a clock that is moved by hand.

The agent's tracer and the exporter's naming are the real ones; records and batches go from one to the other as they do in a
node. Only the kernel and Redis are stood in for. `truth` remembers what happened, and nothing that farcall concluded from it.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farcall.dnscache import (
    MAX_NAMES,
    Answer,
    Binding,
    CacheEntry,
    CacheQuestion,
    CacheUnavailableError,
    NamedAt,
    expires_at_ms,
    tombstone_life_s,
)
from farcall.exchange import BatchHeader
from farcall_exporter.batches import build_batch
from farcall_exporter.decode import decode_batch
from farcall_probes import events
from farcall_probes.batches import render_batch
from farcall_probes.cgroups import CgroupTree
from farcall_probes.clocks import Offsets
from farcall_probes.identity import Identities
from farcall_probes.policy import Policy
from farcall_probes.tracer import Tracer
from support_agent import NS, a_answer, make_config, make_dns, make_drained, make_redis, packed
from support_exporter import Row, make_context, to_rows

TTL_S = 3_600  # Hobby
UNIX = 1_700_000_000 * NS
TRUSTED, UNTRUSTED = "10.96.0.10", "192.0.2.66"
FIRST_TGID = 4_000_000  # above the kernel's limit: no process of this machine has it
PING = b"*1\r\n$4\r\nPING\r\n"


@dataclass(slots=True)
class FakeRedis:
    """The keys of farcall.dnscache with their expiry, in a dict."""

    now: float = 0.0  # Unix seconds
    down: bool = False
    sets: dict[str, tuple[dict[str, float], int]] = field(default_factory=dict)
    bindings: dict[str, tuple[NamedAt, int, int]] = field(default_factory=dict)

    def write(self, answers: Sequence[Answer], bindings: Sequence[Binding]) -> None:
        for answer in answers:
            if self.now - answer.answered_at >= TTL_S:
                continue
            self._add(f"a:{answer.client_key}:{answer.ip}", answer, TTL_S)
            self._add(f"t:{answer.client_key}:{answer.ip}", answer, tombstone_life_s(TTL_S))
            if answer.trusted:
                self._add(f"w:{answer.ip}", answer, TTL_S)
        for binding in bindings:
            named = NamedAt(name=binding.name, answered_at=binding.answered_at)
            expiry = expires_at_ms(binding.answered_at, TTL_S)
            key = f"{binding.client_key}:{binding.local}>{binding.peer}"
            self.bindings[key] = named, expiry, binding.tcp_identity

    def _add(self, key: str, answer: Answer, life_s: int) -> None:
        names, expiry = self.sets.get(key, ({}, 0))
        names = names if expiry > self.now * 1000 else {}
        names[answer.name] = max(answer.answered_at, names.get(answer.name, 0.0))
        newest = sorted(names.items(), key=lambda pair: pair[1])[-MAX_NAMES:]
        self.sets[key] = dict(newest), max(expiry, expires_at_ms(answer.answered_at, life_s))

    def read(self, questions: Sequence[CacheQuestion]) -> list[CacheEntry]:
        if self.down:
            raise CacheUnavailableError("it is down")
        return [self._entry(q) for q in questions]

    def _entry(self, q: CacheQuestion) -> CacheEntry:
        key = f"{q.client_key}:{q.local}>{q.peer}"
        bound, expiry, identity = self.bindings.get(key, (None, 0, 0))
        return CacheEntry(
            binding=bound if expiry > self.now * 1000 else None,
            client_names=self._names(f"a:{q.client_key}:{q.ip}"),
            cluster_names=self._names(f"w:{q.ip}"),
            tombstones=self._names(f"t:{q.client_key}:{q.ip}"),
            tcp_identity=identity,
        )

    def _names(self, key: str) -> tuple[NamedAt, ...]:
        names, expiry = self.sets.get(key, ({}, 0))
        if expiry <= self.now * 1000:
            return ()
        return tuple(NamedAt(name=name, answered_at=at) for name, at in names.items())

    def read_bindings(self, link: "Link") -> list[Binding]:
        """Whatever agents wrote of this connection's client and addresses."""
        local, peer = f"10.0.0.1:{40_000 + link.port}", f"{link.ip}:6379"
        found = []
        for key, (named, expiry, identity) in self.bindings.items():
            client, _, rest = key.partition(f":{local}>")
            is_its_own = client.split(":")[-2] == str(FIRST_TGID + link.client)
            if rest == peer and is_its_own and expiry > self.now * 1000:
                found.append(
                    Binding(
                        client_key=client,
                        local=local,
                        peer=peer,
                        name=named.name,
                        answered_at=named.answered_at,
                        tcp_identity=identity,
                    )
                )
        return found

    def lose_all(self) -> None:
        self.sets.clear()
        self.bindings.clear()

    def list_keys(self) -> list[str]:
        """As a person sees them."""
        living = [key for key, (_, expiry) in self.sets.items() if expiry > self.now * 1000]
        return sorted([*living, *(f"b:{key}" for key in self.bindings)])

    def give_up(self, key: str) -> None:
        """For room, before its time."""
        self.sets.pop(key, None)
        self.bindings.pop(key.removeprefix("b:"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A client read an answer. `life`: of the agent that saw it, None when none ran."""

    client: int
    ip: str
    name: str
    at_ns: int
    trusted: bool
    life: int | None


@dataclass(slots=True, kw_only=True)
class Link:
    client: int
    ip: str
    number: int
    port: int
    opened_ns: int
    life: int | None


class World:
    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="farcall-world-")
        self.now_ns = 1_000_000 * NS
        self.redis = FakeRedis()
        self.told: list[Told] = []
        self.began: dict[int, int] = {}  # client → when its process was started
        self.links: list[Link] = []
        self.lives = 0
        self.life: int | None = None
        self.watched_since_ns = 0
        self.redis_back_ns = 0
        self.given_up: set[str] = set()  # keys of Redis
        self._unwritten: list[tuple[list[Answer], list[Binding]]] = []
        self.restart_exporter()
        self.start_agent()

    def close(self) -> None:
        self._folder.cleanup()

    # ---- farcall ----------------------------------------------------------------------------------------------

    def start_agent(self) -> None:
        path = Path(self._folder.name)
        config = make_config(path)
        self.watched_since_ns = self.now_ns
        self.lives += 1
        self.life = self.lives
        self.tracer = Tracer(
            config,
            identities=Identities(node="n1", cgroups=CgroupTree(path)),
            policy=Policy(
                config.capture, mode=config.mode, ids_below=lambda _d: set(), apply=lambda _d: None
            ),
            offsets=Offsets(unix_ns=UNIX, boot_ns=0),
            watched_since_ns=self.watched_since_ns,
            trusted=frozenset({packed(TRUSTED)}),
        )

        self._is_recalled = False
        self._recall()

    def stop_agent(self) -> None:
        """What it could not write to Redis is lost with it."""
        self.life = None
        self._unwritten.clear()

    def _recall(self) -> None:
        """What the agent reads back at its start, or once Redis can be asked: of the connections that are open now."""
        if self.redis.down or self.life is None or self._is_recalled:
            return
        self._is_recalled = True
        for link in self.links:
            self.tracer.bindings.recall(self.redis.read_bindings(link))

    def restart_exporter(self) -> None:
        self.context = make_context(
            cache=self.redis,  # type: ignore[arg-type]
            clock=lambda: self.now_ns / NS,  # type: ignore[arg-type]
            ttl_s=TTL_S,
        )

    def lose_redis(self) -> None:
        self.redis.lose_all()
        if self.life is not None:
            self._write(self.tracer.held_answers(), self.tracer.held_bindings())

    def give_up(self, key: str) -> None:
        self.redis.give_up(key)
        self.given_up.add(key)

    def set_redis(self, *, down: bool) -> None:
        if self.redis.down and not down:
            self.redis_back_ns = self.now_ns
        self.redis.down = down
        if not down:
            self._recall()
            waiting, self._unwritten = self._unwritten, []
            for answers, bindings in waiting:
                self._write(answers, bindings)

    def _write(self, answers: list[Answer], bindings: list[Binding]) -> None:
        if self.redis.down:
            self._unwritten.append((answers, bindings))
        else:
            self.redis.write(answers, bindings)

    # ---- clients ----------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)
        self.redis.now = (UNIX + self.now_ns) / NS
        if self.life is not None:
            self.tracer.expire(self.now_ns)

    def answer(self, client: int, ip: str, name: str, *, trusted: bool) -> None:
        self.told.append(
            Told(
                client=client, ip=ip, name=name, at_ns=self.now_ns, trusted=trusted, life=self.life
            )
        )
        if self.life is not None:
            resolver = TRUSTED if trusted else UNTRUSTED
            record = make_dns(
                a_answer(name, ip), raddr=resolver, ts_ns=self.now_ns, **self._who(client)
            )
            self._take(dns=[record])

    def connect(self, client: int, ip: str, port: int) -> Link:
        """A new connection from this port; the one that had it is closed."""
        self.links = [x for x in self.links if (x.client, x.ip, x.port) != (client, ip, port)]
        link = Link(
            client=client,
            ip=ip,
            number=self.now_ns,
            port=port,
            opened_ns=self.now_ns,
            life=self.life,
        )
        self.links.append(link)
        return link

    def call(self, link: Link) -> Row | None:
        """One request; its span, None when no agent runs."""
        if self.life is None:
            return None
        is_late = link.life != self.life
        record = make_redis(
            PING,
            conn_id=link.number,
            conn_open_ns=0 if is_late else link.opened_ns,
            flags=(events.FLAG_LATE if is_late else 0) | events.FLAG_IDENTITY,
            isn_client=link.number // 1_000 % 2**32,
            isn_server=7,
            lport=40_000 + link.port,
            raddr=link.ip,
            rport=6379,
            ts_req_ns=self.now_ns,
            ts_resp_ns=self.now_ns + 1_000,
            **self._who(link.client),
        )
        spans = self._take(small=[record])
        assert len(spans) == 1
        return spans[0]

    def _who(self, client: int) -> dict[str, object]:
        began_ns = self.began.setdefault(client, self.now_ns)
        return {"tgid": FIRST_TGID + client, "proc_start_ns": began_ns}

    def _take(self, **records: object) -> list[Row]:
        """Through the agent and the exporter; the spans."""
        self.tracer.take(make_drained(**records), now_ns=self.now_ns)  # type: ignore[arg-type]
        writes = self.tracer.take_cache_writes()
        if writes is not None:
            self._write(writes.answers, writes.bindings)
        spans: list[Row] = []
        for kind, batch in self.tracer.take_batches():
            header = BatchHeader(
                kind=kind, node="n1", boot_id="0" * 32, number=1, dns_watched_since_ns=1
            )
            tables = build_batch(decode_batch(render_batch(batch, header)), self.context)
            if "spans" in tables:
                spans += to_rows(tables["spans"])
        return spans
