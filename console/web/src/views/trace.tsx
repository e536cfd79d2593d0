// The trace page: header with View Logs and Share Trace, overview, waterfall, and the panel of the chosen span.
import { useEffect, useMemo, useState } from "preact/hooks";
import { readTrace } from "../api.ts";
import { buildLogUrl, type LogState, logsOfTrace } from "../lib/logview.ts";
import { formatDuration, zoneName } from "../lib/nanos.ts";
import { oneLine, plural, shortId, visible } from "../lib/text.ts";
import { ancestors, buildTree, findRows, type Row, type Tree, visibleRows } from "../lib/tree.ts";
import { useLoaded } from "../loading.ts";
import { changedParams, place, setParams } from "../place.ts";
import type { Problem, Trace } from "../types.ts";
import { Minimap } from "./minimap.tsx";
import { Panel } from "./panel.tsx";
import { CopyButton, Destination, Empty, Icon, Id, ProblemNotice, Service, Time, Waiting } from "./parts.tsx";
import { Waterfall, type Zoom } from "./waterfall.tsx";

const FIRST_SPANS = 1_000; // a few hundred milliseconds from the store to the screen
const MOST_SPANS = 50_000;

export function TracePage() {
  const traceId = place.value.pathname.split("/")[2] ?? "";
  const [tries, setTries] = useState(0);
  const { trace, problem, rest } = useTrace(traceId, tries);
  if (trace !== null) return <TraceView trace={trace} rest={rest} />;
  return (
    <>
      <header class="page-head"><h1>Trace</h1> <code class="faint wrap">{visible(traceId)}</code></header>
      {problem === null ? <Waiting what="the trace" /> : <NoTrace problem={problem} onRetry={() => setTries(tries + 1)} />}
    </>
  );
}

type Rest = "none" | "loading" | Problem;

/** A big trace shows its first spans at once, and the others when they have come. */
function useTrace(traceId: string, tries: number): { trace: Trace | null; problem: Problem | null; rest: Rest } {
  const first = useLoaded(`${traceId} ${tries}`, (signal) => readTrace(traceId, FIRST_SPANS, signal));
  const wantsMore = !first.loading && first.data !== null && first.data.truncated;
  const whole = useLoaded<Trace | null>(`${traceId} ${tries} ${wantsMore}`, (signal) => (wantsMore ? readTrace(traceId, MOST_SPANS, signal) : Promise.resolve(null)));
  if (first.loading || first.data === null) return { trace: null, problem: first.problem, rest: "none" };
  if (!wantsMore) return { trace: first.data, problem: null, rest: "none" };
  if (whole.loading) return { trace: first.data, problem: null, rest: "loading" };
  return { trace: whole.data ?? first.data, problem: null, rest: whole.problem ?? "none" };
}

function NoTrace({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  if (problem.status !== 404) return <ProblemNotice problem={problem} onRetry={onRetry} />;
  return (
    <Empty title="This trace is not stored">
      <p>It is unknown, or older than what is kept. A trace that has just ended can take a few seconds to arrive.</p>
      <button type="button" class="button" onClick={onRetry}>Look again</button>
    </Empty>
  );
}

function TraceView({ trace, rest }: { trace: Trace; rest: Rest }) {
  const tree = useMemo(() => buildTree(trace.spans), [trace]);
  const [collapsed, setCollapsed] = useState<ReadonlySet<string>>(new Set());
  const [zoomed, setZoom] = useState<Zoom | null>(null);
  const zoom = zoomed ?? { from: 0, length: tree.length };
  const rows = useMemo(() => visibleRows(tree, collapsed), [tree, collapsed]);
  const selectedId = place.value.searchParams.get("span");
  const selected = useMemo(() => rowOf(tree, selectedId), [tree, selectedId]);
  const found = useMemo(() => findRows(tree, place.value.searchParams.get("find") ?? ""), [tree, place.value.searchParams.get("find")]);
  const foundSet = useMemo(() => new Set(found), [found]);
  const toggle = (ids: readonly string[], collapse: boolean) => setCollapsed(changed(collapsed, ids, collapse));
  const select = (spanId: string | null, opens: boolean) => {
    const params = changedParams({ span: spanId });
    if (spanId === null) for (const key of [...params.keys()]) if (key === "tab" || key.startsWith("log.")) params.delete(key);
    setParams(params, opens && selectedId === null ? "push" : "replace");
  };
  const goTo = (row: Row) => {
    setCollapsed(changed(collapsed, ancestors(tree, row), false));
    select(row.span.span_id, true);
  };
  const focusRow = () => requestAnimationFrame(() => document.querySelector<HTMLElement>('.span-row[tabindex="0"]')?.focus());

  useEffect(() => {
    document.title = `${tree.rows[0]?.span.service ?? ""} ${tree.rows[0]?.span.name ?? ""} · trace · farcall`.trim();
  }, [tree]);
  return (
    <>
      <TraceHead trace={trace} tree={tree} isWhole={rest === "none"} />
      {trace.truncated && <Truncated trace={trace} rest={rest} />}
      <div class="trace-tools">
        <FindInTrace tree={tree} found={found} selected={selected} onGo={goTo} />
        <span class="spacer" />
        {zoomed !== null && <button type="button" class="button" onClick={() => setZoom(null)}>Whole trace</button>}
        <button type="button" class="button" onClick={() => toggle(parentsOf(tree), true)}>Collapse all</button>
        <button type="button" class="button" onClick={() => setCollapsed(new Set())}>Expand all</button>
      </div>
      <Minimap tree={tree} zoom={zoom} onZoom={setZoom} />
      <div class={selected === null ? "trace-body" : "trace-body trace-body-split"}>
        <Waterfall tree={tree} rows={rows} collapsed={collapsed} selected={selected?.span.span_id ?? null} found={foundSet} zoom={zoom} onSelect={select} onToggle={toggle} />
        {selected !== null && (
          <Panel
            span={selected.span}
            tree={tree}
            onClose={() => { select(null, false); focusRow(); }}
            onZoom={() => setZoom({ from: selected.offset, length: Math.max(1, selected.duration) })}
          />
        )}
      </div>
    </>
  );
}

function Truncated({ trace, rest }: { trace: Trace; rest: Rest }) {
  return (
    <p class="notice" role="status">
      This trace has {plural(trace.total_spans, "span")}; the first {trace.spans.length.toLocaleString("en")} by start are shown.
      {rest === "loading" && " The others are on their way…"}
      {typeof rest === "object" && ` The others could not be read: ${rest.detail}`}
    </p>
  );
}

function TraceHead({ trace, tree, isWhole }: { trace: Trace; tree: Tree; isWhole: boolean }) {
  const root = tree.rows[0]?.span;
  const start = BigInt(trace.start_ns);
  const end = BigInt(trace.end_ns);
  const around = logsOfTrace(trace.effective_trace_ids, start, end);
  const logs: LogState = isWhole ? around : { ...around, range: { kind: "all" } }; // its end is not known yet
  const others = trace.effective_trace_ids.filter((id) => id !== trace.trace_id);
  return (
    <header class="trace-head">
      <div class="trace-title">
        <h1>
          {root !== undefined && <Service name={root.service} />}
          <span class="trace-operation">{oneLine(root?.name ?? "Trace", 120)}</span>
          {root !== undefined && root.destination !== "" && <><span class="arrow" aria-label="to">→</span><Destination name={root.destination} reason={root.unknown_reason} /></>}
        </h1>
        <p class="trace-facts">
          <span><Time ns={trace.start_ns} /> <span class="faint">{zoneName(start)}</span></span>
          <span><strong>{formatDuration(tree.length)}</strong></span>
          <span>{plural(trace.total_spans, "span")}</span>
          <span>{plural(tree.services.length, "service")}</span>
          {tree.errors > 0 && <span class="count-error"><Icon name="error" /> {plural(tree.errors, "error")}</span>}
          {tree.unknown > 0 && <span class="count-unknown"><Icon name="question" /> {plural(tree.unknown, "unknown destination")}</span>}
          <span>Trace <Id id={trace.trace_id} label="trace ID" /></span>
          {others.length > 0 && <span class="faint">logs carry {others.slice(0, 3).map((id) => <code key={id} title={id}>{shortId(id)} </code>)}{others.length > 3 && `and ${others.length - 3} more`}</span>}
        </p>
      </div>
      <div class="trace-actions">
        <a class="button primary" href={buildLogUrl(logs)}><Icon name="logs" /> View Logs</a>
        <CopyButton text={location.origin + place.value.pathname + place.value.search} label="Copy a link to this trace; it asks for a login">
          Share Trace
        </CopyButton>
      </div>
    </header>
  );
}

/** Takes the place of the browser's own search, which cannot see rows that are not in the document. */
function FindInTrace({ tree, found, selected, onGo }: { tree: Tree; found: readonly number[]; selected: Row | null; onGo: (row: Row) => void }) {
  const text = place.value.searchParams.get("find") ?? "";
  const at = selected === null ? -1 : found.indexOf(selected.index);
  const step = (by: number) => {
    if (found.length === 0) return;
    const next = at < 0 ? (by > 0 ? 0 : found.length - 1) : (at + by + found.length) % found.length;
    onGo(tree.rows[found[next] as number] as Row);
  };
  return (
    <form class="find" role="search" onSubmit={(event) => { event.preventDefault(); step(1); }}>
      <span class="querybar-field">
        <Icon name="search" />
        <input type="text" aria-label="Find spans in this trace" placeholder="Find in this trace: name, service, attribute" spellcheck={false} value={text} onInput={(event) => setParams(changedParams({ find: event.currentTarget.value || null }), "replace")} />
      </span>
      <button type="button" class="button" disabled={found.length === 0} onClick={() => step(-1)}>Previous</button>
      <button type="submit" class="button" disabled={found.length === 0}>Next</button>
      <output role="status" class="faint">{text === "" ? "" : found.length === 0 ? "none found" : at < 0 ? `${found.length} found` : `${at + 1} of ${found.length}`}</output>
    </form>
  );
}

/** By its own ID; else the call that farcall saw of an OpenTelemetry span that is not stored. */
function rowOf(tree: Tree, spanId: string | null): Row | null {
  if (spanId === null) return null;
  return tree.rows.find((row) => row.span.span_id === spanId) ?? tree.rows.find((row) => row.span.effective_span_id === spanId) ?? null;
}

function parentsOf(tree: Tree): string[] {
  return tree.rows.filter((row) => row.children > 0).map((row) => row.span.span_id);
}

function changed(set: ReadonlySet<string>, ids: readonly string[], add: boolean): ReadonlySet<string> {
  const next = new Set(set);
  for (const id of ids) if (add) next.add(id); else next.delete(id);
  return next;
}
