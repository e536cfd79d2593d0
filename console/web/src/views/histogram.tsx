// How many lines, when, by severity. A pointer can drag a range over it; the time range field does the same by keyboard.
import { useRef, useState } from "preact/hooks";
import { type Bar, buildBars, severityTotals, totalOf } from "../lib/bars.ts";
import type { Range } from "../lib/logview.ts";
import { formatTime, zoneName } from "../lib/nanos.ts";
import { plural } from "../lib/text.ts";
import type { LogHistogram } from "../types.ts";

const HEIGHT = 56;
const SMALLEST_DRAG = 0.01; // of the width; less is a click

export function Histogram({ histogram, onRange }: { histogram: LogHistogram; onRange: (range: Range) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const [drag, setDrag] = useState<readonly [number, number] | null>(null);
  const bars = buildBars(histogram);
  if (bars.length === 0) return null;
  const at = (event: PointerEvent) => {
    const { left, width } = (box.current as HTMLDivElement).getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width));
  };
  const start = (event: PointerEvent) => {
    box.current?.setPointerCapture(event.pointerId);
    setDrag([at(event), at(event)]);
  };
  const finish = () => {
    if (drag !== null && Math.abs(drag[1] - drag[0]) >= SMALLEST_DRAG) onRange(rangeOf(histogram, drag));
    setDrag(null);
  };
  return (
    <figure class="histogram">
      <div
        ref={box}
        class="histogram-bars"
        role="img"
        aria-label={summary(histogram)}
        onPointerDown={start}
        onPointerMove={(event) => drag !== null && setDrag([drag[0], at(event)])}
        onPointerUp={finish}
        onPointerCancel={() => setDrag(null)}
      >
        <svg width="100%" height={HEIGHT} preserveAspectRatio="none" viewBox="0 0 1 1">
          {bars.map((bar) => <Column key={bar.x} bar={bar} />)}
          {drag !== null && <rect class="histogram-drag" x={Math.min(...drag)} width={Math.abs(drag[1] - drag[0])} y={0} height={1} />}
        </svg>
      </div>
      <figcaption>
        <span>{formatTime(BigInt(histogram.from_ns), 0)}</span>
        <span>{formatTime(BigInt(histogram.to_ns), 0)} {zoneName()}</span>
      </figcaption>
    </figure>
  );
}

function Column({ bar }: { bar: Bar }) {
  const gap = bar.width * 0.12;
  return (
    <g>
      {bar.parts.map((part) => (
        <rect key={part.severity} class={`severity-fill-${part.severity.toLowerCase() || "none"}`} x={bar.x + gap / 2} width={bar.width - gap} y={part.y} height={part.height} />
      ))}
    </g>
  );
}

function rangeOf(histogram: LogHistogram, drag: readonly [number, number]): Range {
  const from = BigInt(histogram.from_ns);
  const length = Number(BigInt(histogram.to_ns) - from);
  const [low, high] = [Math.min(...drag), Math.max(...drag)];
  return { kind: "between", from: from + BigInt(Math.floor(low * length)), to: from + BigInt(Math.ceil(high * length)) };
}

function summary(histogram: LogHistogram): string {
  const severities = severityTotals(histogram).map(([severity, count]) => `${count} ${severity || "without severity"}`);
  const highest = histogram.buckets.reduce((top, bucket) => (totalOf(bucket.counts) > totalOf(top.counts) ? bucket : top));
  return `${plural(histogram.total, "line")} over time: ${severities.join(", ") || "none"}. Most at ${formatTime(BigInt(highest.start_ns), 0)}.`;
}
