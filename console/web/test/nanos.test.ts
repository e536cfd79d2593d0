// Times and durations as people read them, exact to the nanosecond.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axisTicks, formatAgo, formatDuration, formatRfc3339, formatTime, parseTime, since, zoneName } from "../src/lib/nanos.ts";

const MOMENT = 1_769_860_800_123_456_789n; // 2026-01-31T12:00:00.123456789Z

test("durations carry three digits and a unit", () => {
  const cases: [number, string][] = [[0, "0 ns"], [812, "812 ns"], [1_240_000, "1.24 ms"], [184_000_000, "184 ms"], [1_500_000_000, "1.5 s"], [61e9, "1 min 1 s"], [3_600e9, "1 h"], [90_061e9, "1 d 1 h"], [-2_000, "−2 µs"], [999_400, "999 µs"]];
  for (const [ns, text] of cases) assert.equal(formatDuration(ns), text);
});

test("a time is typed as it is shown, and comes back to the nanosecond", () => {
  assert.equal(parseTime(formatTime(MOMENT, 9)), MOMENT);
  assert.equal(parseTime(formatRfc3339(MOMENT)), MOMENT);
  assert.equal(parseTime("2026-01-31T14:00:00.123456789+02:00"), MOMENT);
  assert.equal(parseTime("1769860800123456789"), MOMENT);
  assert.equal(parseTime("2026-01-31 12:00Z"), MOMENT - 123_456_789n);
});

test("what is no time is none", () => {
  for (const text of ["", "yesterday", "12:00", "2026-13-41 00:00:00", "2026-01-31", "5"]) assert.equal(parseTime(text), null, text);
});

test("RFC 3339 keeps all nine digits", () => {
  assert.equal(formatRfc3339(MOMENT), "2026-01-31T12:00:00.123456789Z");
});

test("nanoseconds of this century do not lose digits between them", () => {
  assert.equal(since(MOMENT, MOMENT + 1n), 1);
  assert.equal(since(MOMENT + 7n, MOMENT), -7);
});

test("the zone has a name", () => {
  assert.match(zoneName(MOMENT), /^UTC([+−]\d\d:\d\d)?$/);
});

test("axes have round steps within their length", () => {
  for (const length of [1, 7, 999, 1_234_567, 184_000_000, 3e12]) {
    const ticks = axisTicks(length);
    assert.ok(ticks.length >= 2 && ticks.length <= 11, String(length));
    assert.ok(ticks.every((tick) => tick <= length));
  }
  assert.deepEqual(axisTicks(0), [0]);
});

test("what was just now is said so", () => {
  assert.equal(formatAgo(MOMENT, MOMENT + 5n), "just now");
  assert.equal(formatAgo(MOMENT, MOMENT + 12_400_000_000n), "12 s ago");
});
