// The spans of a trace as an ARIA treegrid. Only the rows on the screen are in the document, so 100,000 spans scroll
// like 100. Bars are positioned through the CSSOM: the policy allows no style attributes.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { serviceColour } from "../lib/colour.ts";
import { axisTicks, formatDuration } from "../lib/nanos.ts";
import { oneLine, visible } from "../lib/text.ts";
import type { Row, Tree } from "../lib/tree.ts";
import { useVirtualRows } from "../virtual.ts";
import { Destination, Icon } from "./parts.tsx";

const ROW_HEIGHT = 32;
const HEADER_HEIGHT = 32;
const OVERSCAN = 12;
const MAX_INDENT = 24; // levels; deeper ones stay at this depth, and say their level to assistive technology

export interface Zoom {
  readonly from: number; // ns since the start of the trace
  readonly length: number;
}

interface WaterfallProps {
  readonly tree: Tree;
  readonly rows: readonly Row[]; // those not inside a collapsed one
  readonly collapsed: ReadonlySet<string>;
  readonly selected: string | null;
  readonly found: ReadonlySet<number>;
  readonly zoom: Zoom;
  readonly onSelect: (spanId: string, opens: boolean) => void;
  readonly onToggle: (spanIds: readonly string[], collapse: boolean) => void;
}

export function Waterfall(props: WaterfallProps) {
  const { rows, selected } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(() => Math.max(0, indexOf(rows, selected)));
  const current = Math.min(active, rows.length - 1);
  const wantsFocus = useRef(false);
  const virtual = useVirtualRows({ count: rows.length, rowHeight: ROW_HEIGHT, overscan: OVERSCAN, scroller, paddingStart: HEADER_HEIGHT, keep: current });

  useEffect(() => {
    const index = indexOf(rows, selected);
    if (index < 0) return;
    setActive(index);
    virtual.scrollTo(index);
  }, [selected, rows]);
  // Before the next key can come; and again after the next render where the row is not in the document yet.
  useLayoutEffect(() => {
    const row = wantsFocus.current ? scroller.current?.querySelector<HTMLElement>(`[data-row="${current}"]`) : null;
    if (row === null || row === undefined) return;
    wantsFocus.current = false;
    row.focus({ preventScroll: true });
  });

  const moveTo = (index: number) => {
    const next = Math.min(rows.length - 1, Math.max(0, index));
    wantsFocus.current = true;
    setActive(next);
    virtual.scrollTo(next);
    const row = rows[next];
    if (row !== undefined && selected !== null) props.onSelect(row.span.span_id, false);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const row = rows[current];
    if (row === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    if (handleKey(event.key, row, { ...props, moveTo, current })) event.preventDefault();
  };

  return (
    <div class="waterfall" ref={scroller} style={{ "--content-height": `${virtual.height + HEADER_HEIGHT + 2}px` }}>
      <div role="treegrid" aria-label="Spans of this trace" aria-rowcount={rows.length + 1} aria-colcount={2} onKeyDown={onKeyDown}>
        <div role="row" aria-rowindex={1} class="waterfall-head">
          <span role="columnheader">Service and operation</span>
          <span role="columnheader" class="axis"><Axis zoom={props.zoom} /><span class="visually-hidden">Duration</span></span>
        </div>
        <div role="rowgroup" class="waterfall-rows" style={{ height: `${virtual.height}px` }}>
          {virtual.items.map((item) => (
            <SpanRow key={rows[item.index]?.span.span_id ?? item.key} {...props} row={rows[item.index] as Row} index={item.index} top={item.start} isActive={item.index === current} onClick={(row) => { setActive(item.index); wantsFocus.current = true; props.onSelect(row.span.span_id, true); }} />
          ))}
        </div>
      </div>
    </div>
  );
}

interface Keys extends WaterfallProps {
  readonly current: number;
  readonly moveTo: (index: number) => void;
}

/** The treegrid pattern's keys; true when the key was one of them. */
function handleKey(key: string, row: Row, keys: Keys): boolean {
  const { rows, collapsed, current, moveTo, onToggle, onSelect } = keys;
  const id = row.span.span_id;
  const isOpen = row.children > 0 && !collapsed.has(id);
  if (key === "ArrowDown" || key === "f") moveTo(current + 1);
  else if (key === "ArrowUp" || key === "b") moveTo(current - 1);
  else if (key === "PageDown") moveTo(current + 15);
  else if (key === "PageUp") moveTo(current - 15);
  else if (key === "Home") moveTo(0);
  else if (key === "End") moveTo(rows.length - 1);
  else if (key === "ArrowRight" && row.children > 0) isOpen ? moveTo(current + 1) : onToggle([id], false);
  else if (key === "ArrowLeft" && isOpen) onToggle([id], true);
  else if (key === "ArrowLeft" && row.parent >= 0) moveTo(rows.findIndex((other) => other.index === row.parent));
  else if (key === "Enter" || key === " ") onSelect(id, true);
  else return false;
  return true;
}

interface SpanRowProps extends WaterfallProps {
  readonly row: Row;
  readonly index: number;
  readonly top: number;
  readonly isActive: boolean;
  readonly onClick: (row: Row) => void;
}

function SpanRow({ row, index, top, isActive, collapsed, selected, found, zoom, onClick, onToggle }: SpanRowProps) {
  const { span } = row;
  const isClosed = collapsed.has(span.span_id);
  const isSelected = selected === span.span_id;
  const classes = ["span-row", isSelected && "selected", found.has(row.index) && "found", span.status === "Error" && "failed"].filter(Boolean).join(" ");
  const toggle = (event: MouseEvent) => {
    event.stopPropagation();
    onToggle([span.span_id], !isClosed);
  };
  return (
    <div
      role="row"
      class={classes}
      data-row={index}
      aria-rowindex={index + 2}
      aria-level={row.depth + 1}
      aria-expanded={row.children > 0 ? !isClosed : undefined}
      aria-selected={isSelected}
      tabIndex={isActive ? 0 : -1}
      style={{ transform: `translateY(${top}px)` }}
      onClick={() => onClick(row)}
    >
      <span role="gridcell" class="span-name" style={{ paddingLeft: `${Math.min(row.depth, MAX_INDENT) * 16 + 8}px` }}>
        {row.children > 0 ? <span class="caret" aria-hidden="true" onClick={toggle}><Icon name={isClosed ? "right" : "down"} /></span> : <span class="caret" />}
        <span class={`dot service-${serviceColour(span.service)}`} aria-hidden="true" />
        <span class="span-service" title={visible(span.service)}>{oneLine(span.service, 80) || "no service name"}</span>
        <span class="span-operation" title={visible(span.name)}>{oneLine(span.name, 200)}</span>
        {span.destination !== "" && <><span class="arrow" aria-label="to">→</span><Destination name={span.destination} reason={span.unknown_reason} /></>}
        {span.is_server_span && <span class="badge" title="metoro.is_server_span: seen at the server, the client is outside">server</span>}
        {row.orphan && <span class="badge" title="Its parent is not stored">no parent</span>}
        {isClosed && <span class="badge">{row.end - row.index - 1} hidden</span>}
      </span>
      <span role="gridcell" class="span-time"><Bar row={row} zoom={zoom} /></span>
    </div>
  );
}

function Bar({ row, zoom }: { row: Row; zoom: Zoom }) {
  const left = clamp((row.offset - zoom.from) / zoom.length);
  const right = clamp((row.offset + row.duration - zoom.from) / zoom.length);
  const failed = row.span.status === "Error";
  return (
    <>
      <span class={`bar service-${serviceColour(row.span.service)}`} style={{ left: `${left * 100}%`, width: `${(right - left) * 100}%` }} />
      <span class="bar-label" style={{ left: `${right * 100}%` }}>
        {failed && <span class="failed-mark"><Icon name="error" /> error </span>}
        {formatDuration(row.duration)}
      </span>
    </>
  );
}

function Axis({ zoom }: { zoom: Zoom }) {
  return (
    <>
      {axisTicks(zoom.length).filter((tick) => tick < zoom.length * 0.97).map((tick) => (
        <span key={tick} class="tick" style={{ left: `${(tick / zoom.length) * 100}%` }}>{zoom.from + tick === 0 ? "0" : formatDuration(zoom.from + tick)}</span>
      ))}
    </>
  );
}

function indexOf(rows: readonly Row[], spanId: string | null): number {
  return spanId === null ? -1 : rows.findIndex((row) => row.span.span_id === spanId);
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}
