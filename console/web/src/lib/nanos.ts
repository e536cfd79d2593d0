// Times are Unix nanoseconds in BigInt, since a double keeps them only to a quarter of a microsecond. Differences
// within a trace fit a double and are numbers. Units live here, never in a view.

export const MICROSECOND = 1_000;
export const MILLISECOND = 1_000_000;
export const SECOND = 1_000_000_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** `time - origin` as a number; exact for differences below 104 days. */
export function since(origin: bigint, time: bigint): number {
  return Number(time - origin);
}

export function nowNs(): bigint {
  return BigInt(Date.now()) * BigInt(MILLISECOND);
}

const UNITS: readonly (readonly [number, string])[] = [
  [DAY, "d"],
  [HOUR, "h"],
  [MINUTE, "min"],
  [SECOND, "s"],
  [MILLISECOND, "ms"],
  [MICROSECOND, "µs"],
];

/** Three significant digits and a unit: 812 ns, 1.25 ms, 2 min 5 s. */
export function formatDuration(ns: number): string {
  if (ns < 0) return `−${formatDuration(-ns)}`;
  if (ns >= MINUTE) return formatLong(ns);
  for (const [size, unit] of UNITS) {
    if (ns >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

function formatLong(ns: number): string {
  const index = UNITS.findIndex(([size]) => ns >= size);
  const [size, unit] = UNITS[index] ?? [MINUTE, "min"];
  const [nextSize, nextUnit] = UNITS[index + 1] ?? [SECOND, "s"];
  const whole = Math.floor(ns / size);
  const rest = Math.floor((ns - whole * size) / nextSize);
  return rest ? `${whole} ${unit} ${rest} ${nextUnit}` : `${whole} ${unit}`;
}

/** `2026-01-31 12:00:00.123`, local time; the zone is said once per table by `zoneName`. */
export function formatTime(ns: bigint, digits: 0 | 3 | 6 | 9 = 3): string {
  const date = new Date(Number(ns / BigInt(MILLISECOND)));
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${formatClock(ns, digits)}`;
}

/** `12:00:00.123`, local time. */
export function formatClock(ns: bigint, digits: 0 | 3 | 6 | 9 = 3): string {
  const date = new Date(Number(ns / BigInt(MILLISECOND)));
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  if (digits === 0) return clock;
  const fraction = (ns % BigInt(SECOND)).toString().padStart(9, "0").slice(0, digits);
  return `${clock}.${fraction}`;
}

/** RFC 3339 in UTC with all nine digits: for titles, copying and machines. */
export function formatRfc3339(ns: bigint): string {
  const seconds = new Date(Number(ns / BigInt(MILLISECOND))).toISOString().slice(0, 19);
  return `${seconds}.${(ns % BigInt(SECOND)).toString().padStart(9, "0")}Z`;
}

/** The zone at that time, e.g. `UTC+02:00`. */
export function zoneName(ns: bigint = nowNs()): string {
  const minutes = -new Date(Number(ns / BigInt(MILLISECOND))).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** What a person types into a time field, local unless it says a zone; null when it is no time. */
export function parseTime(text: string): bigint | null {
  const match = /^\s*(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d{2}:\d{2})?\s*$/i.exec(text);
  if (match === null) return /^\s*\d{16,19}\s*$/.test(text) ? BigInt(text.trim()) : null;
  const [, day, minute, second = "00", fraction = "", zone = ""] = match;
  const date = new Date(`${day}T${minute}:${second}${zone.toUpperCase()}`);
  if (Number.isNaN(date.getTime())) return null;
  return BigInt(date.getTime()) * BigInt(MILLISECOND) + BigInt(fraction.padEnd(9, "0"));
}

/** `12 s ago`, for what is live. */
export function formatAgo(ns: bigint, now: bigint = nowNs()): string {
  const gap = since(ns, now);
  return gap < SECOND ? "just now" : `${formatDuration(Math.floor(gap / SECOND) * SECOND)} ago`;
}

/** Round steps for an axis of `length` ns with about `wanted` ticks. */
export function axisTicks(length: number, wanted = 5): number[] {
  if (length <= 0) return [0];
  const rough = length / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? 10 * power;
  const ticks: number[] = [];
  for (let tick = 0; tick <= length; tick += step) ticks.push(tick);
  return ticks;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
