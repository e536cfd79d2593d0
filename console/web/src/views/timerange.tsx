// The time range: a few usual ones, everything, or two times typed in. Says its zone.
import { useEffect, useState } from "preact/hooks";
import { isSameRange, type Range } from "../lib/logview.ts";
import { formatDuration, formatTime, parseTime, zoneName } from "../lib/nanos.ts";

const USUAL: readonly (readonly [number, string])[] = [
  [900, "Last 15 minutes"],
  [3_600, "Last hour"],
  [21_600, "Last 6 hours"],
  [86_400, "Last 24 hours"],
  [604_800, "Last 7 days"],
];

interface TimeRangeProps {
  readonly range: Range;
  readonly set?: Range; // the range that the trace gives, offered by name
  readonly setName?: string;
  readonly onChange: (range: Range) => void;
}

export function TimeRange({ range, set, setName, onChange }: TimeRangeProps) {
  const [custom, setCustom] = useState(false);
  useEffect(() => setCustom(false), [keyOf(range)]);
  const isSet = set !== undefined && isSameRange(range, set);
  const chosen = custom ? "custom" : isSet ? "set" : keyOf(range);
  const choose = (value: string) => {
    if (value === "custom") setCustom(true);
    else if (value === "set" && set !== undefined) onChange(set);
    else if (value === "all") onChange({ kind: "all" });
    else onChange({ kind: "last", seconds: Number(value) });
  };
  const isUsual = range.kind === "last" && USUAL.some(([seconds]) => seconds === range.seconds);
  return (
    <div class="timerange">
      <select aria-label="Time range" value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
        {set !== undefined && <option value="set">{setName}</option>}
        {USUAL.map(([seconds, name]) => <option key={seconds} value={String(seconds)}>{name}</option>)}
        {range.kind === "last" && !isUsual && <option value={keyOf(range)}>Last {formatDuration(range.seconds * 1e9)}</option>}
        <option value="all">Everything kept</option>
        {range.kind === "between" && !isSet && <option value={keyOf(range)}>{describe(range)}</option>}
        <option value="custom">From … to …</option>
      </select>
      {custom && <Custom range={range} onChange={onChange} onClose={() => setCustom(false)} />}
    </div>
  );
}

function Custom({ range, onChange, onClose }: { range: Range; onChange: (range: Range) => void; onClose: () => void }) {
  const [from, setFrom] = useState(range.kind === "between" ? formatTime(range.from, 9) : "");
  const [to, setTo] = useState(range.kind === "between" ? formatTime(range.to, 9) : "");
  const fromNs = parseTime(from);
  const toNs = parseTime(to);
  const fault = from === "" || to === "" ? "" : fromNs === null || toNs === null ? "Times look like 2026-01-31 12:00:00" : fromNs >= toNs ? "The first time must lie before the second" : "";
  const submit = (event: Event) => {
    event.preventDefault();
    if (fromNs !== null && toNs !== null && fromNs < toNs) onChange({ kind: "between", from: fromNs, to: toNs });
  };
  return (
    <form class="timerange-custom" aria-label="From and to" onSubmit={submit}>
      <label>From <input value={from} placeholder="2026-01-31 12:00:00" onInput={(event) => setFrom(event.currentTarget.value)} /></label>
      <label>To <input value={to} placeholder="2026-01-31 13:00:00" onInput={(event) => setTo(event.currentTarget.value)} /></label>
      <span class="faint">{zoneName()}, or say one: Z, +02:00</span>
      <button type="submit" class="button primary" disabled={fromNs === null || toNs === null || fault !== ""}>Apply</button>
      <button type="button" class="button" onClick={onClose}>Cancel</button>
      {fault !== "" && <span class="fault" role="alert">{fault}</span>}
    </form>
  );
}

export function describe(range: Range): string {
  if (range.kind === "all") return "everything kept";
  if (range.kind === "last") return `the last ${formatDuration(range.seconds * 1e9)}`;
  const from = formatTime(range.from, 0);
  const to = formatTime(range.to, 0);
  return `${from} – ${from.slice(0, 10) === to.slice(0, 10) ? to.slice(11) : to}`;
}

function keyOf(range: Range): string {
  return range.kind === "last" ? String(range.seconds) : range.kind === "all" ? "all" : `${range.from}-${range.to}`;
}
