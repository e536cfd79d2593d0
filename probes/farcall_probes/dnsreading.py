"""Records of DNS answers → answers: only those to a question that their reader had asked, and whole as far as they were captured.

Anybody can send a datagram from port 53, and a resolver library reads it before it throws it away; so what does not repeat the
question that this very socket sent under this transaction ID is no answer. Over TCP nobody but the resolver can answer.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from farcall_probes.capture import Records
from farcall_probes.dnsstreams import DnsStreams
from farcall_probes.wire import dns
from farcall_probes.wire.outcomes import Truncated

_WHO = ["tgid", "proc_start_ns", "parent_tgid", "cgroup_id", "comm"]  # identity.Seen, in its order
_FIELDS = [*_WHO, "netns", "raddr", "ts_ns", "len", "cap", "data", "tcp"]
_OVER_UDP = ["asked_cap", "asked"]
_OVER_TCP = ["conn_id", "offset", "more"]


class ReadAnswer(NamedTuple):
    who: tuple[Any, ...]
    netns: int
    resolver: bytes
    time_ns: int
    answer: dns.DnsAnswer | None  # None: so little was captured that not even its question is known
    is_cut: bool  # addresses behind the captured bytes are not known


class DnsReader:
    def __init__(self) -> None:
        self._streams = DnsStreams()
        self._counters: Counter[str] = Counter()

    def counters(self) -> dict[str, int]:
        return {**self._counters, "dns_portions_dropped": self._streams.dropped}

    def read(self, records: Records) -> Iterator[ReadAnswer]:
        columns = (records[name].tolist() for name in [*_FIELDS, *_OVER_UDP, *_OVER_TCP])
        for (
            *who,
            netns,
            resolver,
            ts_ns,
            size,
            cap,
            data,
            tcp,
            asked_cap,
            asked,
            conn,
            at,
            more,
        ) in zip(*columns, strict=True):
            if tcp:
                whole = self._streams.take(conn, at, size, bool(more), data[:cap])
            elif dns.answers_question(data[:cap], asked[:asked_cap]):
                whole = data[:cap], cap < size
            else:
                self._counters["dns_unasked_dropped"] += 1
                continue
            parsed = self._parse(*whole) if whole is not None else None
            if parsed is not None:
                yield ReadAnswer(tuple(who), netns, resolver, ts_ns, *parsed)

    def _parse(self, data: bytes, is_cut: bool) -> tuple[dns.DnsAnswer | None, bool] | None:
        answer = dns.parse_answer(data, cut=is_cut)
        was_cut = isinstance(answer, Truncated)
        if isinstance(answer, Truncated):
            self._counters["dns_cut"] += 1
            answer = answer.partial
        if not isinstance(answer, dns.DnsAnswer):
            self._counters["dns_unread_dropped"] += 1
            return (None, True) if is_cut else None
        if answer.question_type not in dns.TYPE_NAMES:
            self._counters["dns_other_type"] += 1
            return None
        return answer, was_cut
