// Makes spans for tests, and random but repeatable values: a failing seed is printed and can be run again.
import type { Span } from "../src/types.ts";

export function makeSpan(changes: Partial<Span>): Span {
  const id = changes.span_id ?? "b7ad6b7169203331";
  return {
    trace_id: "0af7651916cd43dd8448eb211c80319c",
    span_id: id,
    parent_span_id: "",
    name: "GET",
    kind: "Client",
    start_ns: "1790000000000000000",
    duration_ns: "1000000",
    service: "checkout",
    status: "Unset",
    status_message: "",
    source: "ebpf",
    destination: "",
    unknown_reason: "",
    is_server_span: false,
    attributes: {},
    resource: {},
    links: [],
    effective_trace_id: "0af7651916cd43dd8448eb211c80319c",
    effective_span_id: id,
    ...changes,
  };
}

/** mulberry32: small, seeded, good enough to shuffle test data. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function hex(random: () => number, digits: number): string {
  return Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join("");
}
