"""Spans of the shop's pods: wait for them, and count the rounds of their calls."""

from collections import Counter

from farcall.api import Span
from support_cluster import Cluster, wait_until

UNSETTLED = 3  # of the newest rounds: they may still be on their way


def pod_of(span: Span) -> str:
    return span.resource.get("k8s.pod.name", "")


def names(spans: list[Span]) -> set[str]:
    return {span.destination for span in spans}


def wait_spans(cluster: Cluster, caller: str, query: str = "", *, at_least: int = 3) -> list[Span]:
    """Spans of the pods of that Deployment, newest first."""

    def look() -> list[Span] | None:
        found = [s for s in cluster.list_spans(query) if pod_of(s).startswith(f"{caller}-")]
        assert len(found) >= at_least, f"{len(found)} spans of {caller}"
        return found

    return wait_until(look, f"{at_least} spans of {caller}")


def count_rounds(spans: list[Span]) -> Counter[int]:
    """How many spans each numbered call became."""
    return Counter(int(span.attributes["url.path"].rpartition("/")[2]) for span in spans)


def find_missing(rounds: Counter[int]) -> list[int]:
    """Between the oldest and the newest; the oldest may be from before the agent was there."""
    return [n for n in range(min(rounds), max(rounds) - UNSETTLED) if n not in rounds]


def wait_complete(
    cluster: Cluster, path: str, *, at_least: int = 10, since_ns: int = 0
) -> list[Span]:
    """All spans of the calls to /path/N, once each round but the newest has come."""

    def look() -> list[Span]:
        spans = list(cluster.list_spans(f"url.path:/{path}/*", since_ns=since_ns))
        rounds = count_rounds(spans)
        assert len(rounds) >= at_least, f"{len(rounds)} rounds of {path}"
        assert find_missing(rounds) == []
        return spans

    return wait_until(look, f"every call to /{path}/ is a span")
