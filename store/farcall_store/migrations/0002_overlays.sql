CREATE TABLE IF NOT EXISTS trace_links {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  EbpfTraceId String CODEC(ZSTD(1)),
  EbpfSpanId String CODEC(ZSTD(1)),
  OtelTraceId String CODEC(ZSTD(1)),
  OtelSpanId String CODEC(ZSTD(1)),
  Method LowCardinality(String),
  INDEX idx_ebpf_trace EbpfTraceId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_ebpf_span EbpfSpanId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_otel_trace OtelTraceId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = {replacing}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), EbpfTraceId, EbpfSpanId, OtelTraceId, OtelSpanId)
TTL toDateTime(Timestamp) + {traces_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS span_joins {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  TraceId String CODEC(ZSTD(1)),
  SpanId String CODEC(ZSTD(1)),
  Attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  Stored DateTime64(9, 'UTC') DEFAULT now64(9),
  AttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), Attributes::Array(Tuple(String, String))),
  INDEX idx_span SpanId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), TraceId, SpanId)
TTL toDateTime(Timestamp) + {traces_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS late_names {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  TraceId String CODEC(ZSTD(1)),
  SpanId String CODEC(ZSTD(1)),
  DestinationLabel String CODEC(ZSTD(1)),
  Attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  Stored DateTime64(9, 'UTC') DEFAULT now64(9),
  AttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), Attributes::Array(Tuple(String, String))),
  INDEX idx_span SpanId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), TraceId, SpanId)
TTL toDateTime(Timestamp) + {traces_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS sights {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  JoinKey String CODEC(ZSTD(1)),
  State LowCardinality(String),
  Span String CODEC(ZSTD(1))
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), JoinKey)
TTL toDateTime(Timestamp) + {traces_ttl}
SETTINGS {settings};
