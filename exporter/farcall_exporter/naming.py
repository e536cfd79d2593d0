"""Names for the rows of a batch: distinct evidence is decided once, then laid over the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farcall.dnscache import CacheQuestion, NamedAt, format_endpoint
from farcall.exchange import ExchangeFlag
from farcall.mixing import Words
from farcall.names import NameSource
from farcall_exporter.columns import Coded, Codes, Mask, group, numbers, spread
from farcall_exporter.exchanges import Ends, Ints, Owner
from farcall_exporter.lookups import Lookups
from farcall_exporter.resolve import (
    CacheView,
    Call,
    Decision,
    NamingRules,
    is_cache_needed,
    resolve,
)

NS = 10**9
# As plain ints: an IntFlag's operators cost more than the rest of a question.
_WATCHED, _LATE, _DNS_LOST = (
    int(flag) for flag in (ExchangeFlag.WATCHED, ExchangeFlag.LATE, ExchangeFlag.DNS_LOST)
)
_NAMING_FLAGS = _WATCHED | _LATE | _DNS_LOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One distinct piece of evidence of a batch, as late naming keeps it."""

    call: Call
    cache: CacheQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """`groups[i]` is the decision of row i."""

    questions: list[Question]
    decisions: list[Decision]
    groups: Codes

    def texts(self, attribute: str) -> Coded:
        values = [getattr(decision, attribute) for decision in self.decisions]
        return spread([None if v is None else str(v) for v in values], self.groups)

    def answered_ns(self) -> Ints:
        """0 where no answer named it."""
        answered = np.array([(d.answered_at or 0) * NS for d in self.decisions] or [0], np.float64)
        return answered.astype(np.int64)[self.groups]

    def age_s(self, at_ns: Ints) -> Coded:
        answered = self.answered_ns()
        return numbers(np.maximum((at_ns - answered) // NS, 0), answered > 0)

    def only(self, rows: Codes) -> "Named":
        return Named(questions=self.questions, decisions=self.decisions, groups=self.groups[rows])


def name_rows(
    *,
    owner: Owner,
    ends: Ends,
    host: Coded | None,
    protocol: Coded,
    at_ns: Ints,
    peer_inside: Mask,
    rows: Codes,
    rules: NamingRules,
    lookups: Lookups,
    identities: Words | None = None,  # of connections, in TCP sequence space
) -> Named:
    """Decides the name of the far end for `rows`. A group spans at most one second, so that ages are whole seconds right."""
    host_codes = host.codes if host is not None else np.zeros(len(at_ns), np.int64)
    last, groups = group(
        *(
            key[rows]
            for key in (
                ends.connection,
                owner.client_key.codes,
                ends.peer.codes,
                ends.bound_name.codes,
                ends.bound_answered,
                ends.opened,
                host_codes,
                protocol.codes,
                ends.flags & _NAMING_FLAGS,
                at_ns // NS,
            )
        )
    )
    if identities is None:
        identities = np.zeros(len(at_ns), np.uint64)
    questions = _questions(owner, ends, host, protocol, at_ns, peer_inside, identities, rows[last])
    decisions = decide([(q.call, q.cache) for q in questions], rules, lookups)
    return Named(questions=questions, decisions=decisions, groups=groups)


def decide(
    asked: Sequence[tuple[Call, CacheQuestion]], rules: NamingRules, lookups: Lookups
) -> list[Decision]:
    """One pipelined read for all calls that cannot be named without the cache."""
    open_questions = [i for i, (call, _) in enumerate(asked) if is_cache_needed(call, rules)]
    views = dict(
        zip(open_questions, lookups.read([asked[i][1] for i in open_questions]), strict=True)
    )
    return [resolve(call, views.get(i, _UNASKED), rules) for i, (call, _) in enumerate(asked)]


_UNASKED = CacheView()


def _questions(
    owner: Owner,
    ends: Ends,
    host: Coded | None,
    protocol: Coded,
    at_ns: Ints,
    peer_inside: Mask,
    identities: Words,
    rows: Codes,
) -> list[Question]:
    clients = _listed(owner.client_key, rows)
    locals_, peers, bounds = (_listed(c, rows) for c in (ends.local, ends.peer, ends.bound_name))
    hosts = _listed(host, rows) if host is not None else [None] * len(rows)
    columns = zip(
        clients,
        locals_,
        ends.local_port[rows].tolist(),
        peers,
        ends.peer_port[rows].tolist(),
        hosts,
        _listed(protocol, rows),
        bounds,
        ends.bound_answered[rows].tolist(),
        ends.opened[rows].tolist(),
        ends.flags[rows].tolist(),
        at_ns[rows].tolist(),
        peer_inside[rows].tolist(),
        identities[rows].tolist(),
        strict=True,
    )
    return [_question(*values) for values in columns]


def _question(
    client: str | None,
    local: str | None,
    local_port: int,
    peer: str | None,
    peer_port: int,
    host: str | None,
    protocol: str | None,
    bound: str | None,
    answered_ns: int,
    opened_ns: int,
    flags: int,
    at_ns: int,
    inside: bool,
    tcp_identity: int,
) -> Question:
    ip = peer or ""
    return Question(
        call=Call(
            peer_ip=ip,
            at=at_ns / NS,
            inside=inside,
            host=host,
            # Bytes that nobody reads have no host but the one in a TLS ClientHello.
            host_source=NameSource.SNI if protocol == "tcp" else NameSource.HTTP,
            opened=opened_ns / NS if opened_ns else None,
            bound=NamedAt(name=bound, answered_at=answered_ns / NS)
            if bound and answered_ns
            else None,
            watched=bool(flags & _WATCHED),
            late=bool(flags & _LATE),
            dns_lost=bool(flags & _DNS_LOST),
            tcp_identity=tcp_identity,
        ),
        cache=CacheQuestion(
            client_key=client or "",
            ip=ip,
            local=format_endpoint(local or "", local_port),
            peer=format_endpoint(ip, peer_port),
        ),
    )


def _listed(coded: Coded, rows: Codes) -> list[str | None]:
    texts = [*coded.texts(), None]  # code -1 finds the None
    return [texts[code] for code in coded.codes[rows].tolist()]
