// The histogram's geometry and the severities' order. Pure.
import type { LogHistogram } from "../types.ts";

export const SEVERITIES = ["TRACE", "DEBUG", "INFO", "", "WARN", "ERROR", "FATAL"] as const;

export interface Bar {
  readonly x: number; // 0..1 of the width
  readonly width: number;
  readonly total: number;
  readonly parts: readonly { readonly severity: string; readonly y: number; readonly height: number }[]; // 0..1, from the top
}

export function buildBars(histogram: LogHistogram): Bar[] {
  const from = BigInt(histogram.from_ns);
  const length = Number(BigInt(histogram.to_ns) - from);
  const step = Number(histogram.step_ns);
  const highest = Math.max(1, ...histogram.buckets.map((bucket) => totalOf(bucket.counts)));
  if (length <= 0) return [];
  return histogram.buckets.map((bucket) => {
    let y = 1;
    const parts = SEVERITIES.filter((severity) => (bucket.counts[severity] ?? 0) > 0).map((severity) => {
      const height = (bucket.counts[severity] ?? 0) / highest;
      y -= height;
      return { severity, y, height };
    });
    const x = Number(BigInt(bucket.start_ns) - from) / length;
    return { x, width: Math.min(step / length, 1 - x), total: totalOf(bucket.counts), parts };
  });
}

export function totalOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** Counts of the whole histogram by severity, the severest first. */
export function severityTotals(histogram: LogHistogram): [string, number][] {
  const totals = new Map<string, number>();
  for (const bucket of histogram.buckets)
    for (const [severity, count] of Object.entries(bucket.counts)) totals.set(severity, (totals.get(severity) ?? 0) + count);
  return [...SEVERITIES].reverse().filter((severity) => totals.has(severity)).map((severity) => [severity, totals.get(severity) ?? 0]);
}
