// The API's shapes, as farcall.api declares them; a test compares the field names with the Python side.
// Integers of 64 bits are decimal strings.

export interface Link {
  trace_id: string;
  span_id: string;
}

export interface Span {
  trace_id: string;
  span_id: string;
  parent_span_id: string;
  name: string;
  kind: string;
  start_ns: string;
  duration_ns: string;
  service: string;
  status: string;
  status_message: string;
  source: string;
  destination: string;
  unknown_reason: string;
  is_server_span: boolean;
  attributes: Record<string, string>;
  resource: Record<string, string>;
  links: Link[];
  effective_trace_id: string;
  effective_span_id: string;
}

export interface TraceSummary {
  trace_id: string;
  root_name: string;
  root_service: string;
  destination: string;
  start_ns: string;
  duration_ns: string;
  spans: number;
  errors: number;
  sources: string[];
  unknown: number;
  unknown_reasons: string[];
}

export interface Trace {
  trace_id: string;
  effective_trace_ids: string[];
  start_ns: string;
  end_ns: string;
  spans: Span[];
  truncated: boolean;
  total_spans: number;
}

export interface LogLine {
  id: string;
  time_ns: string;
  severity: string;
  severity_number: number;
  service: string;
  body: string;
  trace_id: string;
  span_id: string;
  attributes: Record<string, string>;
  resource: Record<string, string>;
}

export interface HistogramBucket {
  start_ns: string;
  counts: Record<string, number>;
}

export interface LogHistogram {
  from_ns: string;
  to_ns: string;
  step_ns: string;
  buckets: HistogramBucket[];
  total: number;
  outside: number;
}

export interface DnsEvidence {
  time_ns: string;
  client: string;
  service: string;
  resolver: string;
  question: string;
  address: string;
  canonical_name: string;
  used: boolean;
}

export interface Evidence {
  trace_id: string;
  span_id: string;
  label: string;
  source: string;
  confidence: string;
  unknown_reason: string;
  rule: string;
  advice: string;
  client: string;
  service: string;
  peer: string;
  connection_opened_ns: string;
  span_time_ns: string;
  answered_at_ns: string;
  age_s: number | null;
  ttl_s: number;
  tier: string;
  ttl_overridden: boolean;
  answers: DnsEvidence[];
  rivals: string[];
}

export interface ComponentStatus {
  kind: string;
  name: string;
  version: string;
  seen_ns: string;
  started_ns: string;
  config_generation: number;
  alive: boolean;
  capabilities: Record<string, string>[];
  counters: Record<string, string>;
  gauges: Record<string, number>;
  config_revision: string;
}

export interface Status {
  name: string;
  version: string;
  tier: string;
  dns_ttl_s: number;
  dns_ttl_overridden: boolean;
  cluster_cidrs: string[];
  config_generation: number;
  components: ComponentStatus[];
  warnings: string[];
  config_revision: string;
  cluster_cidrs_source: string;
}

export interface TracePage {
  items: TraceSummary[];
  next: string | null;
}

export interface LogPage {
  items: LogLine[];
  next: string | null;
}

export interface Problem {
  title: string;
  status: number;
  detail: string;
  type: string;
  field?: string | null;
  position?: number | null;
}
