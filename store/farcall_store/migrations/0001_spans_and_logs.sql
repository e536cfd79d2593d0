CREATE TABLE IF NOT EXISTS otel_traces {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  TraceId String CODEC(ZSTD(1)),
  SpanId String CODEC(ZSTD(1)),
  ParentSpanId String CODEC(ZSTD(1)),
  TraceState String CODEC(ZSTD(1)),
  SpanName LowCardinality(String) CODEC(ZSTD(1)),
  SpanKind LowCardinality(String) CODEC(ZSTD(1)),
  ServiceName LowCardinality(String) CODEC(ZSTD(1)),
  ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  ScopeName LowCardinality(String) CODEC(ZSTD(1)),
  ScopeVersion LowCardinality(String) CODEC(ZSTD(1)),
  SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  Duration UInt64 CODEC(ZSTD(1)),
  StatusCode LowCardinality(String) CODEC(ZSTD(1)),
  StatusMessage String CODEC(ZSTD(1)),
  Source LowCardinality(String) DEFAULT 'otel',
  DestinationLabel LowCardinality(String) DEFAULT SpanAttributes['farcall.destination.name'],
  UnknownReason LowCardinality(String) DEFAULT SpanAttributes['farcall.unknown.reason'],
  IsServerSpan Bool DEFAULT SpanAttributes['metoro.is_server_span'] = 'true',
  ConnectionId String DEFAULT SpanAttributes['farcall.connection.id'] CODEC(ZSTD(1)),
  Events Nested (
    Timestamp DateTime64(9, 'UTC'),
    Name LowCardinality(String),
    Attributes Map(LowCardinality(String), String)
  ) CODEC(ZSTD(1)),
  Links Nested (
    TraceId String,
    SpanId String,
    TraceState String,
    Attributes Map(LowCardinality(String), String)
  ) CODEC(ZSTD(1)),
  SpanAttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), SpanAttributes::Array(Tuple(String, String))),
  ResourceAttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), ResourceAttributes::Array(Tuple(String, String))),
  SearchText String
    ALIAS lower(concat(SpanName, ' ', ServiceName, ' ', DestinationLabel, ' ', StatusMessage, ' ',
      arrayStringConcat(mapValues(SpanAttributes), ' '))),
  INDEX idx_trace TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_span SpanId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_span_items SpanAttributeItems TYPE text(tokenizer = 'array'),
  INDEX idx_res_items ResourceAttributeItems TYPE text(tokenizer = 'array'),
  INDEX idx_text SearchText TYPE text(tokenizer = 'splitByNonAlpha'),
  INDEX idx_duration Duration TYPE minmax GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), ServiceName, SpanName, Timestamp)
TTL toDateTime(Timestamp) + {traces_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts {on_cluster} (
  TraceId String CODEC(ZSTD(1)),
  Start DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  End DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  INDEX idx_trace TraceId TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
TTL toDateTime(Start) + {traces_ttl}
SETTINGS {settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv {on_cluster}
TO otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel_traces WHERE TraceId != '' GROUP BY TraceId;

CREATE TABLE IF NOT EXISTS otel_logs {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  ObservedTimestamp DateTime64(9, 'UTC') DEFAULT Timestamp CODEC(Delta(8), ZSTD(1)),
  TraceId String CODEC(ZSTD(1)),
  SpanId String CODEC(ZSTD(1)),
  TraceFlags UInt8,
  SeverityText LowCardinality(String) CODEC(ZSTD(1)),
  SeverityNumber UInt8,
  ServiceName LowCardinality(String) CODEC(ZSTD(1)),
  Body String CODEC(ZSTD(1)),
  EventName LowCardinality(String) CODEC(ZSTD(1)),
  ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  ScopeName LowCardinality(String) CODEC(ZSTD(1)),
  LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  LineId UInt64 DEFAULT rand64(),
  LogAttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), LogAttributes::Array(Tuple(String, String))),
  ResourceAttributeItems Array(String)
    ALIAS arrayMap(a -> concat(a.1, '=', a.2), ResourceAttributes::Array(Tuple(String, String))),
  INDEX idx_trace TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_span SpanId TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX idx_log_items LogAttributeItems TYPE text(tokenizer = 'array'),
  INDEX idx_res_items ResourceAttributeItems TYPE text(tokenizer = 'array'),
  INDEX idx_body lower(Body) TYPE text(tokenizer = 'splitByNonAlpha')
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp)
TTL toDateTime(Timestamp) + {logs_ttl}
SETTINGS {settings};
