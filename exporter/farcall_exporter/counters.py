"""The exporter's counters: every loss and refusal has one, and they only ever grow. The status page shows them."""

import threading

NAMES: dict[str, str] = {
    "batches_committed": "batches written to the store and acknowledged",
    "commits": "times that batches were written, all that had come by then as one insert for each table",
    "commits_split": "of these, inserts that the store refused as a whole, and that were written batch by batch",
    "batches_repeated": "batches that were known by their number, acknowledged again and not written",
    "batches_refused": "batches that can never be taken, answered with a 4xx",
    "batches_busy": "batches turned away with 503: the queue was full",
    "batches_failed": "batches turned away with 503: the store did not take them",
    "batches_given_up_lost": "batches that the store refused for good, answered with 422",
    "unauthorized": "requests with a wrong token or none",
    "rows_received": "rows in committed batches",
    "spans_written": "spans of exchanges written",
    "spans_filtered": "spans that `capture.filters` leaves out",
    "spans_sampled_out": "spans that are not in the sample of `capture.sampling`",
    "spans_rate_limited_lost": "spans beyond what `capture.rateLimits` lets one service store",
    "spans_unknown": "of these, spans to an Unknown External Service",
    "otlp_spans": "spans received by OTLP and written",
    "otlp_logs": "log records received by OTLP and written",
    "otlp_rejected_lost": "OTLP spans and log records rejected in a partial success",
    "otlp_refused": "OTLP requests answered with a 4xx",
    "otlp_busy": "OTLP requests answered with 503",
    "outside_client_sights": "client's sights of calls from outside to inside: the server's sight is the span",
    "joins_same_batch": "server's sights joined to a client's of the same batch",
    "joins_waiting": "server's sights that had waited and were joined",
    "joins_from_store": "server-side sights joined to a span that an exporter before or beside this one stored",
    "sights_adopted": "server-side sights taken over from an exporter that is gone",
    "stored_spans_unasked": "server-side sights that became spans because too many waited while the store could not be asked whether their client's is stored",
    "joins_stored": "server's sights joined to a client's span stored before",
    "joins_overlap": "of all joins, those by overlap of byte ranges",
    "parents_same_batch": "calls whose parent was known when they were stored",
    "parents_late": "calls whose parent became known later: a link ties them",
    "parents_unknown": "calls given up for a parent that was never told, or because too many waited",
    "sights_kept": "server's sights whose client's never came: kept as server-side spans",
    "sights_expelled": "of these, kept early because too many were waiting",
    "sights_unproven_lost": "server's sights given up: the client's span exists, but the join cannot be proven",
    "sights_restored": "waiting sights read back at start",
    "sights_unreadable_lost": "waiting sights that could not be read back",
    "client_sights_late_lost": "client's sights that came after the server's had been kept: one span stays one",
    "clients_forgotten": "clients' spans given up for joining because too many were remembered",
    "cache_questions": "distinct names that were asked for",
    "cache_reads": "of these, asked of Redis",
    "cache_failures": "times that Redis could not be asked",
    "cache_tls_failures": "of these, for its certificate or ours",
    "kubernetes_lists": "times that all objects of a kind were read from the API server",
    "kubernetes_relists": "of these, because the API server no longer knew where a watch had ended",
    "kubernetes_events": "changes of pods, services, nodes and workloads that watches told",
    "kubernetes_failures": "times that the API server could not be read; names of the cluster may be missing or old",
    "kubernetes_objects_refused": "objects of the API server that could not be understood, or found no room",
    "kubernetes_named": "spans whose destination is named by the cluster",
    "late_names": "spans that got their name later",
    "late_reasons": "spans that have no name, and whose reason became known only once Redis could be asked again",
    "late_forgotten": "unknown spans given up for late naming: too many, or too old",
    "otlp_out_spans": "spans sent by OTLP",
    "otlp_out_rejected_lost": "spans that the OTLP backend took the request of, and not them",
    "otlp_out_dropped": "spans not sent by OTLP: queue full, refused, or retries used up",
    "otlp_out_retries": "times that an OTLP request was sent again",
    "agent_restarts": "times that a node's agent came back as another boot",
    "agent_restarts_unannounced": "of these, after an end that the agent did not announce (killed): what it had seen in its last second is not known to have arrived",
    "agent_unwatched_ms": "milliseconds between an agent's end, or its last word, and its next start: calls of that time on its node are not seen",
    "agent_in_flight_lost": "calls that were in flight when an agent ended, counted at each end that they were seen at",
    "high_water_failures": "times that the high-water marks could not be written; the batches themselves were",
    "status_failures": "times that a component's status could not be written",
    "config_refused": "times that a new config was broken; the one before stayed in force",
    "certificate_refused": "times that a new certificate was unusable; the one before stayed in force",
    "internal_errors": "faults of the exporter itself while it handled a batch or a request",
}


class Counters:
    """Added to from several threads, read by the status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(NAMES, 0)

    def add(self, name: str, count: int) -> None:
        with self._lock:
            self._values[name] += int(count)

    def read(self) -> dict[str, int]:
        with self._lock:
            return dict(self._values)
