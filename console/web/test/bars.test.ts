// The histogram's columns stay in their frame and add up.
import assert from "node:assert/strict";
import { test } from "node:test";
import { buildBars, severityTotals } from "../src/lib/bars.ts";
import { PALETTE_SIZE, serviceColour } from "../src/lib/colour.ts";
import { shortReason } from "../src/lib/reasons.ts";

const HISTOGRAM = {
  from_ns: "1790000000000000000",
  to_ns: "1790000000000000100",
  step_ns: "30",
  buckets: [
    { start_ns: "1790000000000000000", counts: { INFO: 3, ERROR: 1 } },
    { start_ns: "1790000000000000090", counts: { INFO: 2 } },
  ],
  total: 6,
  outside: 0,
};

test("columns lie where their time is, and the highest fills the height", () => {
  const [first, last] = buildBars(HISTOGRAM);
  assert.deepEqual([first?.x, first?.width, last?.x], [0, 0.3, 0.9]);
  assert.ok(Math.abs((last?.width ?? 0) - 0.1) < 1e-9, "the last one ends with the range");
  assert.equal(first?.parts.reduce((sum, part) => sum + part.height, 0), 1);
  assert.equal(first?.parts.at(-1)?.severity, "ERROR");
  assert.equal(first?.parts.at(-1)?.y, 0);
});

test("totals come with the severest first", () => {
  assert.deepEqual(severityTotals(HISTOGRAM), [["ERROR", 1], ["INFO", 5]]);
});

test("no range, no columns", () => {
  assert.deepEqual(buildBars({ ...HISTOGRAM, to_ns: HISTOGRAM.from_ns }), []);
});

test("a service keeps its colour, and every colour exists", () => {
  assert.equal(serviceColour("checkout"), serviceColour("checkout"));
  for (let n = 0; n < 500; n++) assert.ok(serviceColour(`service ${n}`) < PALETTE_SIZE);
});

test("a reason that is newer than the page is still readable", () => {
  assert.equal(shortReason("brand_new"), "brand new");
});
