// The log view's state survives the way through a URL and back, whatever is in it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { buildLogParams, buildLogUrl, EMPTY_STATE, isSameRange, type LogState, logsOfSpan, logsOfTrace, PAD_NS, parseLogState, type Range, resolveRange } from "../src/lib/logview.ts";
import { hex, randomFrom } from "./support.ts";

const TEXTS = ["", "error", '"a phrase" -not', "a&b=c#d?e", "key:/re+gex/ %20 %", "ключ:значение", "\u202e<script>", "trace=x&span=y", "  spaces  "];

function randomState(random: () => number): LogState {
  const pick = <T>(values: readonly T[]) => values[Math.floor(random() * values.length)] as T;
  const from = BigInt(Math.floor(random() * 1e15));
  const ranges: Range[] = [{ kind: "all" }, { kind: "last", seconds: 1 + Math.floor(random() * 1e6) }, { kind: "between", from, to: from + 1n + BigInt(Math.floor(random() * 1e15)) }];
  const ids = (digits: number) => Array.from({ length: Math.floor(random() * 3) }, () => hex(random, digits));
  return { q: pick(TEXTS), traces: ids(32), spans: ids(16), range: pick(ranges), order: pick(["asc", "desc"] as const) };
}

test("what a URL says is what was put into it", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const state = randomState(randomFrom(seed));
    assert.deepEqual(parseLogState(new URL(buildLogUrl(state), "http://x").searchParams), state, `seed ${seed}`);
  }
});

test("two views on one page keep apart", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = randomFrom(seed);
    const base = { ...randomState(random), traces: [hex(random, 32)], spans: [hex(random, 16)] };
    const state = { ...randomState(random), traces: base.traces, spans: base.spans };
    const params = buildLogParams(state, base, "log.");
    params.set("span", "00f067aa0ba902b7");
    params.set("q", "another view's");
    assert.deepEqual(parseLogState(params, base, "log."), state, `seed ${seed}`);
  }
});

test("nonsense in a URL is not believed", () => {
  for (const query of ["trace=nonsense", "span=1", "last=-5", "last=1e9", "from=5&to=4", "from=x&to=9", "from=7", "order=up"]) {
    assert.deepEqual(parseLogState(new URLSearchParams(query)), EMPTY_STATE, query);
  }
});

test("a trace's logs are asked for by all its effective IDs, around its time, without a span", () => {
  const ids = ["a".repeat(32), "b".repeat(32)];
  const state = logsOfTrace(ids, 100n * 10n ** 9n, 101n * 10n ** 9n);
  assert.deepEqual([state.traces, state.spans], [ids, []]);
  assert.ok(isSameRange(state.range, { kind: "between", from: 100n * 10n ** 9n - PAD_NS, to: 101n * 10n ** 9n + PAD_NS }));
});

test("a span's logs are asked for by that span, and never before 1970", () => {
  const state = logsOfSpan("a".repeat(32), ["c".repeat(16)], 5n, 6n);
  assert.deepEqual(state.spans, ["c".repeat(16)]);
  assert.deepEqual(state.range, { kind: "between", from: 0n, to: 6n + PAD_NS });
});

test("a relative range moves with the clock", () => {
  assert.deepEqual(resolveRange({ kind: "last", seconds: 2 }, 5_000_000_000n), { from: 3_000_000_000n, to: 5_000_000_000n });
  assert.deepEqual(resolveRange({ kind: "all" }, 5n), {});
});
