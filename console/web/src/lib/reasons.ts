// Reasons for `Unknown External Service`, in a few words for lists. The whole sentence and the cure are the evidence's.

export const UNKNOWN = "Unknown External Service";

const SHORT: Readonly<Record<string, string>> = {
  no_dns_seen: "called by bare IP address",
  expired: "its DNS answer has expired",
  ambiguous: "several names lead to this address",
  cache_unavailable: "the DNS cache was not reachable",
  cache_evicted: "the DNS cache had to give it up",
  agent_started_later: "connected before the agent started",
  dns_lost: "DNS records were lost",
};

export function shortReason(reason: string): string {
  return SHORT[reason] ?? reason.replace(/_/g, " ");
}

const SOURCES: Readonly<Record<string, string>> = {
  kubernetes: "Kubernetes",
  server: "the server itself, seen answering",
  http: "HTTP Host header",
  sni: "TLS server name (SNI)",
  dns: "DNS answer",
  cache: "DNS cache, this client",
  cluster: "DNS cache, whole cluster",
};

export function sourceName(source: string): string {
  return SOURCES[source] ?? source;
}

const CONFIDENCES: Readonly<Record<string, string>> = {
  exact: "exact: said by the request, or by the answer this connection was opened with",
  client: "this client asked for it, though not provably for this connection",
  shared: "another client of the cluster asked for it",
};

export function confidenceName(confidence: string, source: string): string {
  if (confidence === "exact" && source === "kubernetes") return "exact: the cluster says whose address it is";
  return CONFIDENCES[confidence] ?? confidence;
}
