// The log view's state ↔ URL. The one pair of functions for every page that shows or links to log lines: what one
// writes the other reads (a property test goes round), so a link can never carry a filter the view does not know.

export type Range =
  | { readonly kind: "last"; readonly seconds: number } // up to now
  | { readonly kind: "between"; readonly from: bigint; readonly to: bigint } // Unix ns, half open
  | { readonly kind: "all" }; // everything that is kept

export interface LogState {
  readonly q: string;
  readonly traces: readonly string[]; // effective trace IDs; lines of any of them
  readonly spans: readonly string[];
  readonly range: Range;
  readonly order: "desc" | "asc";
}

export const DEFAULT_RANGE: Range = { kind: "last", seconds: 3_600 };
export const EMPTY_STATE: LogState = { q: "", traces: [], spans: [], range: DEFAULT_RANGE, order: "desc" };

// Log lines of a request are written around its spans, not only inside them: buffers, other machines' clocks.
export const PAD_NS = 30n * 1_000_000_000n;

/** `base` holds what the URL leaves out; `prefix` keeps two views on one page apart. */
export function parseLogState(params: URLSearchParams, base: LogState = EMPTY_STATE, prefix = ""): LogState {
  const traces = idsOf(params, `${prefix}trace`, 32);
  const spans = idsOf(params, `${prefix}span`, 16);
  return {
    q: params.get(`${prefix}q`) ?? base.q,
    traces: traces.length > 0 ? traces : base.traces,
    spans: spans.length > 0 ? spans : base.spans,
    range: parseRange(params, base.range, prefix),
    order: params.get(`${prefix}order`) === "asc" ? "asc" : params.get(`${prefix}order`) === "desc" ? "desc" : base.order,
  };
}

/** Writes only what differs from `base`. */
export function buildLogParams(state: LogState, base: LogState = EMPTY_STATE, prefix = ""): URLSearchParams {
  const params = new URLSearchParams();
  if (state.q !== base.q) params.set(`${prefix}q`, state.q);
  if (!isSameList(state.traces, base.traces)) for (const id of state.traces) params.append(`${prefix}trace`, id);
  if (!isSameList(state.spans, base.spans)) for (const id of state.spans) params.append(`${prefix}span`, id);
  if (!isSameRange(state.range, base.range)) buildRange(params, state.range, prefix);
  if (state.order !== base.order) params.set(`${prefix}order`, state.order);
  return params;
}

export function buildLogUrl(state: LogState): string {
  const query = buildLogParams(state).toString();
  return query === "" ? "/logs" : `/logs?${query}`;
}

/** What View Logs opens: every line of the request flow, around the time it took, oldest first. */
export function logsOfTrace(effectiveTraceIds: readonly string[], startNs: bigint, endNs: bigint): LogState {
  return { q: "", traces: effectiveTraceIds, spans: [], range: padded(startNs, endNs), order: "asc" };
}

/** What the Logs tab shows: that span's lines and no other's. */
export function logsOfSpan(traceId: string, spanIds: readonly string[], startNs: bigint, endNs: bigint): LogState {
  return { q: "", traces: [traceId], spans: spanIds, range: padded(startNs, endNs), order: "asc" };
}

export function padded(startNs: bigint, endNs: bigint): Range {
  const from = startNs > PAD_NS ? startNs - PAD_NS : 0n;
  return { kind: "between", from, to: endNs + PAD_NS };
}

export interface Bounds {
  readonly from?: bigint;
  readonly to?: bigint;
}

/** What the API is asked, at the moment it is asked. */
export function resolveRange(range: Range, now: bigint): Bounds {
  if (range.kind === "all") return {};
  if (range.kind === "between") return { from: range.from, to: range.to };
  return { from: now - BigInt(range.seconds) * 1_000_000_000n, to: now };
}

export function isSameRange(a: Range, b: Range): boolean {
  if (a.kind === "last" && b.kind === "last") return a.seconds === b.seconds;
  if (a.kind === "between" && b.kind === "between") return a.from === b.from && a.to === b.to;
  return a.kind === b.kind;
}

export function parseRange(params: URLSearchParams, base: Range, prefix = ""): Range {
  const last = params.get(`${prefix}last`);
  if (last === "all") return { kind: "all" };
  if (last !== null && /^[1-9]\d{0,8}$/.test(last)) return { kind: "last", seconds: Number(last) };
  const from = parseNs(params.get(`${prefix}from`));
  const to = parseNs(params.get(`${prefix}to`));
  return from !== null && to !== null && from < to ? { kind: "between", from, to } : base;
}

export function buildRange(params: URLSearchParams, range: Range, prefix = ""): void {
  if (range.kind === "all") params.set(`${prefix}last`, "all");
  if (range.kind === "last") params.set(`${prefix}last`, String(range.seconds));
  if (range.kind === "between") {
    params.set(`${prefix}from`, String(range.from));
    params.set(`${prefix}to`, String(range.to));
  }
}

function parseNs(text: string | null): bigint | null {
  return text !== null && /^\d{1,19}$/.test(text) ? BigInt(text) : null;
}

function idsOf(params: URLSearchParams, key: string, digits: number): string[] {
  const wanted = new RegExp(`^[0-9a-f]{${digits}}$`);
  return [...new Set(params.getAll(key).flatMap((value) => value.toLowerCase().split(",")))].filter((id) => wanted.test(id));
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}
