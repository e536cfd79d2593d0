// A trace's spans become rows, whatever the spans claim about each other.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ancestors, buildTree, findRows, visibleRows } from "../src/lib/tree.ts";
import { hex, makeSpan, randomFrom } from "./support.ts";

const START = 1_790_000_000_000_000_000n;

function span(id: string, parent: string, at = 0, took = 10, more = {}) {
  return makeSpan({ span_id: id, parent_span_id: parent, effective_span_id: id, start_ns: String(START + BigInt(at)), duration_ns: String(took), ...more });
}

function outline(spans: ReturnType<typeof span>[]): string[] {
  return buildTree(spans).rows.map((row) => `${" ".repeat(row.depth)}${row.span.span_id}${row.orphan ? "?" : ""}`);
}

test("children follow their parent in order of start", () => {
  assert.deepEqual(outline([span("c", "a", 5), span("b", "a", 2), span("a", "", 0), span("d", "b", 3)]), ["a", " b", "  d", " c"]);
});

test("a span whose parent is not there is a root, and says so", () => {
  assert.deepEqual(outline([span("a", "", 0), span("b", "gone", 1)]), ["a", "b?"]);
});

test("two roots stand one below the other", () => {
  assert.deepEqual(outline([span("b", "", 5), span("a", "", 0)]), ["a", "b"]);
});

test("a circle is cut and every span is shown once", () => {
  const rows = outline([span("a", "c", 0), span("b", "a", 1), span("c", "b", 2)]);
  assert.equal(rows.length, 3);
  assert.deepEqual(outline([span("a", "a")]), ["a?"]);
});

test("an eBPF span hangs below the OpenTelemetry span that sent the request", () => {
  const call = span("e", "", 3, 4, { effective_span_id: "o" });
  assert.deepEqual(outline([span("o", "", 0), call]), ["o", " e"]);
});

test("offsets count from the earliest start, also when a child starts before its parent", () => {
  const tree = buildTree([span("a", "", 100, 10), span("b", "a", 40, 5)]);
  assert.equal(tree.origin, START + 40n);
  assert.deepEqual(tree.rows.map((row) => row.offset), [60, 0]);
  assert.equal(tree.length, 70);
});

test("an empty trace has no rows and a length that can be divided by", () => {
  assert.deepEqual([buildTree([]).rows.length, buildTree([]).length], [0, 1]);
});

test("collapsed spans hide what is below them", () => {
  const tree = buildTree([span("a", "", 0), span("b", "a", 1), span("c", "b", 2), span("d", "a", 3)]);
  assert.deepEqual(visibleRows(tree, new Set(["b"])).map((row) => row.span.span_id), ["a", "b", "d"]);
  assert.deepEqual(visibleRows(tree, new Set(["a"])).map((row) => row.span.span_id), ["a"]);
});

test("a span is found by name, destination and attribute, and its parents are known", () => {
  const tree = buildTree([span("a", "", 0), span("b", "a", 1), span("c", "b", 2, 1, { attributes: { "db.system.name": "Redis" } })]);
  assert.deepEqual(findRows(tree, "system.name=redis"), [2]);
  assert.deepEqual(findRows(tree, "  "), []);
  assert.deepEqual(ancestors(tree, tree.rows[2]!), ["b", "a"]);
});

test("random forests keep every span, each below its parent", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = randomFrom(seed);
    const ids = Array.from({ length: 80 }, () => hex(random, 16));
    const spans = ids.map((id) => span(id, random() < 0.2 ? "" : (ids[Math.floor(random() * ids.length)] as string), Math.floor(random() * 1_000)));
    const rows = buildTree(spans).rows;
    assert.equal(new Set(rows.map((row) => row.span.span_id)).size, 80, `seed ${seed}`);
    for (const row of rows) {
      const above = row.parent < 0 ? null : rows[row.parent]!;
      assert.ok(above === null || (above.depth === row.depth - 1 && above.index < row.index && row.end <= above.end), `seed ${seed}`);
    }
  }
});

test("a chain of 100,000 spans needs no recursion and no square time", () => {
  const spans = Array.from({ length: 100_000 }, (_, n) => span(String(n), n === 0 ? "" : String(n - 1), n)).reverse();
  assert.equal(buildTree(spans).rows.at(-1)?.depth, 99_999);
});
