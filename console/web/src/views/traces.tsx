// The list of traces: a query, a time range, the newest first. A row is a link, so it opens in a tab like any other.
import { useEffect, useMemo, useState } from "preact/hooks";
import { listTraces } from "../api.ts";
import { buildRange, DEFAULT_RANGE, parseRange, type Range } from "../lib/logview.ts";
import { formatDuration, nowNs, zoneName } from "../lib/nanos.ts";
import { shortReason, UNKNOWN } from "../lib/reasons.ts";
import { oneLine, plural } from "../lib/text.ts";
import { problemOf, useLoaded } from "../loading.ts";
import { place, setParams } from "../place.ts";
import type { Problem, TracePage as Page, TraceSummary } from "../types.ts";
import { Destination, Empty, Icon, ProblemNotice, Service, Time, Waiting } from "./parts.tsx";
import { QueryBar } from "./querybar.tsx";
import { describe, TimeRange } from "./timerange.tsx";

const PAGE = 100;

export function TracesPage() {
  const q = place.value.searchParams.get("q") ?? "";
  const range = parseRange(place.value.searchParams, DEFAULT_RANGE);
  const [asked, setAsked] = useState(0);
  const key = `${place.value.search} ${asked}`;
  const now = useMemo(nowNs, [key]);
  const { data, problem, loading } = useLoaded(key, (signal) => listTraces(q, range, now, { limit: PAGE }, signal));
  const more = useMore(key, (cursor, signal) => listTraces(q, range, now, { limit: PAGE, cursor }, signal), data);
  const items = data === null ? [] : [...data.items, ...more.items];
  const go = (nextQ: string, nextRange: Range) => {
    const params = new URLSearchParams();
    if (nextQ !== "") params.set("q", nextQ);
    if (nextRange.kind !== "last" || nextRange.seconds !== 3_600) buildRange(params, nextRange);
    setParams(params);
  };
  return (
    <>
      <header class="page-head">
        <h1>Traces</h1>
        <p class="faint">Every call seen, and every trace that applications sent. Newest first, times in {zoneName()}.</p>
      </header>
      <QueryBar label="Search traces by their spans" placeholder={'words, key:value, key:/regex/, -not, is:unknown, duration>100ms'} value={q} problem={problem} withMessage={false} onSearch={(next) => (next === q ? setAsked(asked + 1) : go(next, range))} />
      <div class="logview-tools">
        <TimeRange range={range} onChange={(next) => go(q, next)} />
        <button type="button" class="button" onClick={() => setAsked(asked + 1)}><Icon name="refresh" /> Refresh</button>
        <span class="faint" role="status">{loading ? "" : `${plural(items.length, "trace")}${more.next === null ? "" : " and more"}`}</span>
      </div>
      {problem !== null && problem.field !== "q" && <ProblemNotice problem={problem} onRetry={() => setAsked(asked + 1)} />}
      {problem === null && data === null && <Waiting what="traces" />}
      {data !== null && items.length === 0 && !loading && <NoTraces q={q} range={range} onClear={() => go("", range)} onWiden={() => go(q, { kind: "all" })} />}
      {items.length > 0 && <TraceTable items={items} />}
      {more.problem !== null && <ProblemNotice problem={more.problem} />}
      {more.next !== null && <button type="button" class="button load-more" disabled={more.loading} onClick={more.load}>Load more</button>}
    </>
  );
}

function TraceTable({ items }: { items: readonly TraceSummary[] }) {
  const longest = items.reduce((top, item) => Math.max(top, Number(item.duration_ns)), 1);
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Traces">
      <table class="traces">
        <thead>
          <tr>
            <th scope="col">Start</th>
            <th scope="col">Service</th>
            <th scope="col">Operation</th>
            <th scope="col">Destination</th>
            <th scope="col">Duration</th>
            <th scope="col" class="number">Spans</th>
            <th scope="col">Seen by</th>
          </tr>
        </thead>
        <tbody>{items.map((item) => <TraceRow key={item.trace_id} item={item} longest={longest} />)}</tbody>
      </table>
    </div>
  );
}

function TraceRow({ item, longest }: { item: TraceSummary; longest: number }) {
  const duration = Number(item.duration_ns);
  return (
    <tr>
      <td class="number nowrap"><Time ns={item.start_ns} /></td>
      <td><Service name={item.root_service} /></td>
      <td class="operation"><a href={`/traces/${item.trace_id}`}>{oneLine(item.root_name, 160) || "no name"}</a></td>
      <td><RowDestination item={item} /></td>
      <td class="nowrap">
        <span class="duration">{formatDuration(duration)}</span>
        <span class="duration-bar" aria-hidden="true"><span style={{ width: `${Math.max(1, (duration / longest) * 100)}%` }} /></span>
      </td>
      <td class="number">{item.spans.toLocaleString("en")}{item.errors > 0 && <span class="count-error nowrap"> <Icon name="error" /> {plural(item.errors, "error")}</span>}</td>
      <td class="nowrap">{item.sources.map((source) => <span key={source} class={`badge badge-${source === "ebpf" ? "ebpf" : "otel"}`}>{source === "ebpf" ? "eBPF" : "OTel"}</span>)}</td>
    </tr>
  );
}

/** The root's destination; beside it, what of the rest is unknown, and why. */
function RowDestination({ item }: { item: TraceSummary }) {
  const reasons = item.unknown_reasons ?? [];
  if (item.destination === UNKNOWN) return <Destination name={UNKNOWN} reason={reasons[0] ?? ""} />;
  return (
    <>
      <Destination name={item.destination} reason="" />
      {item.unknown > 0 && <span class="unknown-more"><Icon name="question" /> {plural(item.unknown, "unknown destination")}{reasons.length > 0 && `: ${reasons.map(shortReason).join(", ")}`}</span>}
    </>
  );
}

function NoTraces({ q, range, onClear, onWiden }: { q: string; range: Range; onClear: () => void; onWiden: () => void }) {
  return (
    <Empty title={q === "" ? `No trace in ${describe(range)}` : `No trace in ${describe(range)} matches this search`}>
      {range.kind !== "all" && <button type="button" class="button" onClick={onWiden}>Look at everything kept</button>}
      {q !== "" && <button type="button" class="button" onClick={onClear}>Clear the search</button>}
      {q === "" && <p>No call was seen and no application sent one. The <a href="/status">status page</a> says what the agents can see; <code>farcall doctor</code> says it on a node.</p>}
    </Empty>
  );
}

interface More {
  readonly items: readonly TraceSummary[];
  readonly next: string | null;
  readonly loading: boolean;
  readonly problem: Problem | null;
  readonly load: () => void;
}

/** The pages after the first. */
function useMore(key: string, ask: (cursor: string, signal: AbortSignal) => Promise<Page>, first: Page | null): More {
  const [state, setState] = useState<{ items: readonly TraceSummary[]; next: string | null; loading: boolean; problem: Problem | null }>({ items: [], next: null, loading: false, problem: null });
  const abort = useMemo(() => new AbortController(), [key]);
  useEffect(() => {
    setState({ items: [], next: first?.next ?? null, loading: false, problem: null });
    return () => abort.abort();
  }, [key, first]);
  const load = () => {
    if (state.next === null) return;
    setState({ ...state, loading: true });
    ask(state.next, abort.signal).then(
      (page) => setState({ items: [...state.items, ...page.items], next: page.next, loading: false, problem: null }),
      (error: unknown) => abort.signal.aborted || setState({ ...state, loading: false, problem: problemOf(error) }),
    );
  };
  return { ...state, load };
}
