// A trace's spans → rows of a tree. Pure: knows nothing of pixels or the page. Copes with parents that are missing, with
// cycles (hostile or broken input), with several roots and with 100,000 spans: one pass, no recursion.
import type { Span } from "../types.ts";
import { since } from "./nanos.ts";

export interface Row {
  readonly index: number;
  readonly span: Span;
  readonly depth: number;
  readonly parent: number; // index of the parent's row, -1 for a root
  readonly children: number; // direct ones
  readonly end: number; // index after its last descendant
  readonly offset: number; // ns since the start of the trace
  readonly duration: number;
  readonly orphan: boolean; // it names a parent that is not in the trace
}

export interface Tree {
  readonly rows: readonly Row[];
  readonly origin: bigint;
  readonly length: number; // ns, at least 1
  readonly services: readonly string[]; // in order of appearance
  readonly errors: number;
  readonly unknown: number;
}

interface Node {
  span: Span;
  start: bigint;
  children: Node[];
  parent: Node | null;
  orphan: boolean;
}

export function buildTree(spans: readonly Span[]): Tree {
  const nodes = spans.map((span): Node => ({ span, start: BigInt(span.start_ns), children: [], parent: null, orphan: false }));
  const roots = connect(nodes);
  const origin = nodes.reduce((least, node) => (node.start < least ? node.start : least), nodes[0]?.start ?? 0n);
  const rows = flatten(roots, origin);
  return {
    rows,
    origin,
    length: rows.reduce((latest, row) => Math.max(latest, row.offset + row.duration), 1),
    services: [...new Set(rows.map((row) => row.span.service))],
    errors: rows.filter((row) => row.span.status === "Error").length,
    unknown: rows.filter((row) => row.span.unknown_reason !== "").length,
  };
}

/** Rows that are not inside a collapsed one. */
export function visibleRows(tree: Tree, collapsed: ReadonlySet<string>): Row[] {
  if (collapsed.size === 0) return tree.rows as Row[];
  const shown: Row[] = [];
  for (let i = 0; i < tree.rows.length; ) {
    const row = tree.rows[i] as Row;
    shown.push(row);
    i = collapsed.has(row.span.span_id) ? row.end : i + 1;
  }
  return shown;
}

/** Indexes of rows whose service, name, destination, IDs or attributes contain `needle`, letter case apart. */
export function findRows(tree: Tree, needle: string): number[] {
  const wanted = needle.trim().toLowerCase();
  if (wanted === "") return [];
  return tree.rows.filter((row) => haystack(row.span).includes(wanted)).map((row) => row.index);
}

/** IDs of the rows above `row`: they must be open for it to be seen. */
export function ancestors(tree: Tree, row: Row): string[] {
  const ids: string[] = [];
  for (let at = row.parent; at >= 0; ) {
    const above = tree.rows[at] as Row;
    ids.push(above.span.span_id);
    at = above.parent;
  }
  return ids;
}

function haystack(span: Span): string {
  const attributes = Object.entries(span.attributes).map(([key, value]) => `${key}=${value}`);
  return [span.service, span.name, span.destination, span.span_id, span.status_message, ...attributes].join("\n").toLowerCase();
}

/** Ties children to parents by ID. An eBPF span linked to an OTel span hangs below it: that one sent the request. */
function connect(nodes: Node[]): Node[] {
  const byId = new Map<string, Node>();
  for (const node of nodes) if (!byId.has(node.span.span_id)) byId.set(node.span.span_id, node);
  for (const node of nodes) {
    node.parent = byId.get(parentIdOf(node.span)) ?? null;
    node.orphan = node.span.parent_span_id !== "" && node.parent === null;
  }
  cutCircles(nodes);
  for (const node of nodes) node.parent?.children.push(node);
  return nodes.filter((node) => node.parent === null);
}

function parentIdOf(span: Span): string {
  if (span.parent_span_id !== "") return span.parent_span_id;
  return span.effective_span_id !== span.span_id ? span.effective_span_id : "";
}

/** Walks up from each node once; a walk that meets itself is a circle, and is cut where it closed. */
function cutCircles(nodes: Node[]): void {
  const walkOf = new Map<Node, number>();
  nodes.forEach((start, walk) => {
    for (let at: Node | null = start; at !== null && !walkOf.has(at); at = at.parent) {
      walkOf.set(at, walk);
      if (at.parent !== null && walkOf.get(at.parent) === walk) {
        at.parent = null;
        at.orphan = true;
      }
    }
  });
}

function flatten(roots: Node[], origin: bigint): Row[] {
  const rows: Row[] = [];
  const stack: { node: Node; depth: number; parent: number; close?: number }[] = [];
  for (const node of byStart(roots).reverse()) stack.push({ node, depth: 0, parent: -1 });
  while (stack.length > 0) {
    const { node, depth, parent, close } = stack.pop() as (typeof stack)[number];
    if (close !== undefined) {
      rows[close] = { ...(rows[close] as Row), end: rows.length };
      continue;
    }
    const index = rows.length;
    rows.push(makeRow(node, index, depth, parent, origin));
    if (node.children.length === 0) continue;
    stack.push({ node, depth, parent, close: index });
    for (const child of byStart(node.children).reverse()) stack.push({ node: child, depth: depth + 1, parent: index });
  }
  return rows;
}

function makeRow(node: Node, index: number, depth: number, parent: number, origin: bigint): Row {
  return {
    index,
    span: node.span,
    depth,
    parent,
    children: node.children.length,
    end: index + 1,
    offset: since(origin, node.start),
    duration: Number(node.span.duration_ns),
    orphan: node.orphan,
  };
}

function byStart(nodes: Node[]): Node[] {
  return nodes.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

