CREATE TABLE IF NOT EXISTS dns_answers {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  ClientKey LowCardinality(String),
  Node LowCardinality(String),
  ServiceName LowCardinality(String),
  Executable LowCardinality(String),
  Pid UInt32,
  ContainerId LowCardinality(String),
  Namespace LowCardinality(String),
  Pod LowCardinality(String),
  Resolver String CODEC(ZSTD(1)),
  Question String CODEC(ZSTD(1)),
  QuestionType LowCardinality(String),
  Rcode UInt8,
  Address String CODEC(ZSTD(1)),
  TtlSeconds UInt32,
  CanonicalName String CODEC(ZSTD(1)),
  INDEX idx_address Address TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), ClientKey, Timestamp)
TTL toDateTime(Timestamp) + {evidence_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS connections {on_cluster} (
  Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
  ConnectionId String CODEC(ZSTD(1)),
  Opened Nullable(DateTime64(9, 'UTC')),
  Role LowCardinality(String),
  Protocol LowCardinality(String),
  Flags UInt32,
  ClientKey LowCardinality(String),
  Node LowCardinality(String),
  ServiceName LowCardinality(String),
  Executable LowCardinality(String),
  Pid UInt32,
  ContainerId LowCardinality(String),
  Namespace LowCardinality(String),
  Pod LowCardinality(String),
  LocalAddress String CODEC(ZSTD(1)),
  LocalPort UInt16,
  PeerAddress String CODEC(ZSTD(1)),
  PeerPort UInt16,
  BoundName String CODEC(ZSTD(1)),
  BoundAnswered Nullable(DateTime64(9, 'UTC')),
  Rivals Array(String) CODEC(ZSTD(1)),
  Label String CODEC(ZSTD(1)),
  NameSource LowCardinality(String),
  UnknownReason LowCardinality(String),
  AnsweredAt Nullable(DateTime64(9, 'UTC')),
  TtlSeconds UInt32,
  INDEX idx_connection ConnectionId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = {engine}
PARTITION BY toDate(Timestamp)
ORDER BY (toStartOfFiveMinutes(Timestamp), ConnectionId, Timestamp)
TTL toDateTime(Timestamp) + {evidence_ttl}
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS component_status {on_cluster} (
  Seen DateTime64(9, 'UTC'),
  Kind LowCardinality(String),
  Name String,
  Status String CODEC(ZSTD(1))
) ENGINE = {replacing_by_seen}
ORDER BY (Kind, Name)
TTL toDateTime(Seen) + toIntervalDay(7)
SETTINGS {plain_settings};

CREATE TABLE IF NOT EXISTS ingest_high_water {on_cluster} (
  BootId String,
  Number UInt64,
  Seen DateTime64(9, 'UTC') DEFAULT now64(9)
) ENGINE = {replacing_by_number}
ORDER BY BootId
TTL toDateTime(Seen) + toIntervalDay(30)
SETTINGS {plain_settings};

CREATE TABLE IF NOT EXISTS share_links {on_cluster} (
  Token String,
  State String CODEC(ZSTD(1)),
  CreatedBy String,
  Created DateTime64(3, 'UTC') DEFAULT now64(3),
  Expires DateTime64(3, 'UTC'),
  Revoked Bool DEFAULT false,
  Version UInt64 DEFAULT toUnixTimestamp64Milli(now64(3))
) ENGINE = {replacing_by_version}
ORDER BY Token
TTL toDateTime(Expires) + toIntervalDay(30)
SETTINGS {plain_settings};
