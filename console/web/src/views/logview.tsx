// The log view: the only one. The logs page shows it alone, the trace page shows it in a span's Logs tab, and both have
// the same search, filters, time range and histogram, because they are the same.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { countLogs, listLogs } from "../api.ts";
import { severityTotals } from "../lib/bars.ts";
import { addFilter, type Filter, LEVELS, levelOf, withLevel } from "../lib/filters.ts";
import { type LogState, type Range, resolveRange } from "../lib/logview.ts";
import { nowNs, zoneName } from "../lib/nanos.ts";
import { plural, shortId } from "../lib/text.ts";
import { problemOf, useLoaded } from "../loading.ts";
import type { LogHistogram, LogLine as Line, Problem } from "../types.ts";
import { Histogram } from "./histogram.tsx";
import { LogLine } from "./logline.tsx";
import { NoLogs } from "./nologs.tsx";
import { Icon, ProblemNotice, Waiting } from "./parts.tsx";
import { QueryBar } from "./querybar.tsx";
import { TimeRange } from "./timerange.tsx";

const PAGE = 200;

interface LogViewProps {
  readonly state: LogState;
  readonly onChange: (state: LogState) => void;
  readonly set?: Range; // the time range that the trace gives
  readonly locked: boolean; // the trace and span filters belong to the place, and cannot be taken off
}

export function LogView({ state, onChange, set, locked }: LogViewProps) {
  const [asked, setAsked] = useState(0); // counts refreshes: "the last hour" moves with them
  const key = `${keyOf(state)} ${asked}`;
  const now = useMemo(nowNs, [key]);
  const pages = usePages(key, state, now);
  const counted = useLoaded(`${key} count`, (signal) => countLogs(state, now, signal));
  const change = (changes: Partial<LogState>) => onChange({ ...state, ...changes });
  const filter = (added: Filter) => change({ q: addFilter(state.q, added) });
  const problem = pages.problem ?? counted.problem;
  return (
    <section class="logview" aria-label="Log lines" aria-busy={pages.loading}>
      <QueryBar
        label="Search the log lines"
        placeholder={'words, "a phrase", /regex/, key:value, -not'}
        value={state.q}
        problem={problem}
        withMessage
        onSearch={(q) => (q === state.q ? setAsked(asked + 1) : change({ q }))}
      />
      <div class="logview-tools">
        <TimeRange range={state.range} {...(set !== undefined && { set, setName: "Around the trace" })} onChange={(range) => change({ range })} />
        <select aria-label="Order" value={state.order} onChange={(event) => change({ order: event.currentTarget.value === "asc" ? "asc" : "desc" })}>
          <option value="desc">Newest first</option>
          <option value="asc">Oldest first</option>
        </select>
        <select aria-label="Severity" value={levelOf(state.q)} onChange={(event) => change({ q: withLevel(state.q, event.currentTarget.value) })}>
          <option value="">Any severity</option>
          {LEVELS.map((level) => <option key={level} value={level}>{level} and above</option>)}
        </select>
        <button type="button" class="button" onClick={() => setAsked(asked + 1)}><Icon name="refresh" /> Refresh</button>
        {!locked && <ScopeChips state={state} onChange={change} />}
      </div>
      {problem !== null && problem.field !== "q" && <ProblemNotice problem={problem} onRetry={() => setAsked(asked + 1)} />}
      {problem === null && <Totals histogram={counted.data} onWiden={() => change({ range: { kind: "all" } })} />}
      {problem === null && counted.data !== null && counted.data.total > 0 && <Histogram histogram={counted.data} onRange={(range) => change({ range })} />}
      {problem === null && <Lines pages={pages} state={state} outside={counted.data?.outside ?? 0} locked={locked} onFilter={filter} onChange={change} />}
    </section>
  );
}

function ScopeChips({ state, onChange }: { state: LogState; onChange: (changes: Partial<LogState>) => void }) {
  return (
    <>
      {state.traces.map((id) => (
        <span key={id} class="chip">
          Trace <a href={`/traces/${id}`} title={id}><code>{shortId(id)}</code></a>
          <button type="button" class="icon-button" aria-label={`Take off the filter by trace ${shortId(id)}`} onClick={() => onChange({ traces: state.traces.filter((other) => other !== id) })}><Icon name="close" /></button>
        </span>
      ))}
      {state.spans.map((id) => (
        <span key={id} class="chip">
          Span <code title={id}>{shortId(id)}</code>
          <button type="button" class="icon-button" aria-label={`Take off the filter by span ${shortId(id)}`} onClick={() => onChange({ spans: state.spans.filter((other) => other !== id) })}><Icon name="close" /></button>
        </span>
      ))}
    </>
  );
}

function Totals({ histogram, onWiden }: { histogram: LogHistogram | null; onWiden: () => void }) {
  return (
    <p class="totals" role="status">
      {histogram !== null && <strong>{plural(histogram.total, "line")}</strong>}
      {histogram !== null && severityTotals(histogram).map(([severity, count]) => (
        <span key={severity} class={`severity severity-${severity.toLowerCase() || "none"}`}>{count.toLocaleString("en")} {severity || "no severity"}</span>
      ))}
      {histogram !== null && histogram.outside > 0 && (
        <button type="button" class="chip chip-button" onClick={onWiden}>{histogram.outside.toLocaleString("en")} more outside this range</button>
      )}
      <span class="faint zone">times in {zoneName()}</span>
    </p>
  );
}

interface LinesProps {
  readonly pages: Pages;
  readonly state: LogState;
  readonly outside: number;
  readonly locked: boolean;
  readonly onFilter: (filter: Filter) => void;
  readonly onChange: (changes: Partial<LogState>) => void;
}

function Lines({ pages, state, outside, locked, onFilter, onChange }: LinesProps) {
  if (pages.lines.length === 0) {
    return pages.loading ? <Waiting what="log lines" /> : <NoLogs state={state} outside={outside} onChange={onChange} />;
  }
  const days = new Set([pages.lines[0], pages.lines.at(-1)].map((line) => new Date(Number(BigInt((line as Line).time_ns) / 1_000_000n)).toDateString()));
  return (
    <>
      <ol class="log-lines">
        {pages.lines.map((line) => <LogLine key={line.id} line={line} withDay={days.size > 1} hideTrace={locked} onFilter={onFilter} />)}
      </ol>
      {pages.hasMore && <button type="button" class="button load-more" disabled={pages.loading} onClick={pages.loadMore}>Load more</button>}
    </>
  );
}

interface Pages {
  readonly lines: readonly Line[];
  readonly problem: Problem | null;
  readonly loading: boolean;
  readonly hasMore: boolean;
  readonly loadMore: () => void;
}

interface Fetched {
  readonly key: string;
  readonly lines: readonly Line[];
  readonly next: string | null;
  readonly problem: Problem | null;
}

/** The pages fetched so far for one question. A new question gives the old one up. */
function usePages(key: string, state: LogState, now: bigint): Pages {
  const [fetched, setFetched] = useState<Fetched>({ key: "", lines: [], next: null, problem: null });
  const [loading, setLoading] = useState(true);
  const abort = useRef(new AbortController());
  const load = (cursor: string | null, before: readonly Line[]) => {
    const { signal } = abort.current;
    setLoading(true);
    listLogs(state, now, { limit: PAGE, cursor }, signal).then(
      (page) => setFetched({ key, lines: [...before, ...page.items], next: page.next, problem: null }),
      (error: unknown) => signal.aborted || setFetched({ key, lines: before, next: null, problem: problemOf(error) }),
    ).finally(() => signal.aborted || setLoading(false));
  };
  useEffect(() => {
    abort.current = new AbortController();
    load(null, []);
    return () => abort.current.abort();
  }, [key]);
  return {
    lines: fetched.lines,
    problem: fetched.key === key ? fetched.problem : null,
    loading: loading || fetched.key !== key,
    hasMore: fetched.key === key && fetched.next !== null,
    loadMore: () => load(fetched.next, fetched.lines),
  };
}

function keyOf(state: LogState): string {
  const { from, to } = resolveRange(state.range, 0n);
  return JSON.stringify([state.q, state.traces, state.spans, state.range.kind, String(from), String(to), state.order]);
}
