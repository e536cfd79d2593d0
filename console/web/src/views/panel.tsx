// The details of the chosen span, in tabs. A region beside the waterfall, not a dialog: the trace stays in sight.
import { useMemo } from "preact/hooks";
import { countLogs } from "../api.ts";
import { buildLogParams, type LogState, logsOfSpan, parseLogState } from "../lib/logview.ts";
import { formatDuration, nowNs, since } from "../lib/nanos.ts";
import { oneLine, visible } from "../lib/text.ts";
import type { Tree } from "../lib/tree.ts";
import { useLoaded } from "../loading.ts";
import { changedParams, mergedParams, place, setParams } from "../place.ts";
import type { Span } from "../types.ts";
import { EvidenceView } from "./evidence.tsx";
import { Attributes } from "./logline.tsx";
import { LogView } from "./logview.tsx";
import { Destination, Icon, Id, Service, Time } from "./parts.tsx";

const TABS = ["overview", "attributes", "logs", "name"] as const;
type Tab = (typeof TABS)[number];
const LOG_PREFIX = "log.";

interface PanelProps {
  readonly span: Span;
  readonly tree: Tree;
  readonly onClose: () => void;
  readonly onZoom: () => void;
}

export function Panel({ span, tree, onClose, onZoom }: PanelProps) {
  const tab = tabOf(place.value.searchParams.get("tab"));
  const base = useMemo(() => spanLogs(span), [span]);
  const counted = useLoaded(`${span.trace_id} ${span.span_id}`, (signal) => countLogs({ ...base, range: { kind: "all" } }, nowNs(), signal));
  const count = counted.loading ? null : (counted.data?.total ?? null);
  const names: Readonly<Record<Tab, string>> = {
    overview: "Overview",
    attributes: `Attributes ${Object.keys(span.attributes).length}`,
    logs: count === null ? "Logs" : `Logs ${count.toLocaleString("en")}`,
    name: "Why this name?",
  };
  const choose = (next: Tab) => setParams(changedParams({ tab: next === "overview" ? null : next }), "replace");
  return (
    <section class="panel" aria-label="Span details" onKeyDown={(event) => event.key === "Escape" && !event.defaultPrevented && onClose()}>
      <header class="panel-head">
        <h2><Service name={span.service} /> <span class="panel-operation">{oneLine(span.name, 200)}</span></h2>
        <button type="button" class="button" onClick={onZoom}>Zoom to span</button>
        <button type="button" class="icon-button" aria-label="Close the span details" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div role="tablist" aria-label="Span details" class="tabs" onKeyDown={(event) => moveTab(event, tab, choose)}>
        {TABS.map((each) => (
          <button key={each} type="button" role="tab" id={`tab-${each}`} aria-selected={each === tab} aria-controls="tab-panel" tabIndex={each === tab ? 0 : -1} onClick={() => choose(each)}>
            {names[each]}
          </button>
        ))}
      </div>
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`} tabIndex={0} class={`tab-panel tab-panel-${tab}`}>
        {tab === "overview" && <Overview span={span} tree={tree} />}
        {tab === "attributes" && <AllAttributes span={span} />}
        {tab === "logs" && <SpanLogs base={base} key={span.span_id} />}
        {tab === "name" && <EvidenceView traceId={span.trace_id} spanId={span.span_id} key={span.span_id} />}
      </div>
    </section>
  );
}

/** Only this span's lines. An eBPF span of an OpenTelemetry call has the lines of the OTel span that sent it. */
function spanLogs(span: Span): LogState {
  const start = BigInt(span.start_ns);
  const ids = [...new Set([span.effective_span_id, span.span_id])];
  return logsOfSpan(span.effective_trace_id, ids, start, start + BigInt(span.duration_ns));
}

function SpanLogs({ base }: { base: LogState }) {
  const state = parseLogState(place.value.searchParams, base, LOG_PREFIX);
  const change = (next: LogState) => setParams(mergedParams(LOG_PREFIX, buildLogParams(next, base, LOG_PREFIX)));
  return <LogView state={state} set={base.range} locked onChange={change} />;
}

function Overview({ span, tree }: { span: Span; tree: Tree }) {
  const start = BigInt(span.start_ns);
  return (
    <>
      {span.status === "Error" && <p class="notice notice-error"><strong>Error.</strong> {visible(span.status_message || span.attributes["error.type"] || "The call failed.")}</p>}
      <dl class="facts">
        <dt>Destination</dt>
        <dd>{span.destination === "" ? <span class="faint">none: not an outgoing call that farcall saw</span> : <Destination name={span.destination} reason={span.unknown_reason} />}</dd>
        <dt>Start</dt>
        <dd><Time ns={span.start_ns} digits={6} /> <span class="faint">+{formatDuration(since(tree.origin, start))}</span></dd>
        <dt>Duration</dt>
        <dd>{formatDuration(Number(span.duration_ns))}<ServerShare span={span} /></dd>
        <Piece label="Request sent" word="in" ns={span.attributes["farcall.request.duration_ns"]} />
        <Piece label="Response began" word="after" ns={span.attributes["farcall.response.first_byte_ns"]} />
        <dt>Kind</dt>
        <dd>{span.kind}{span.is_server_span ? ", seen at the server (the client is outside the cluster)" : ""}</dd>
        <dt>Status</dt>
        <dd>{span.status}</dd>
        <dt>Seen by</dt>
        <dd>{span.source === "ebpf" ? "farcall, in the kernel (eBPF)" : "the application (OpenTelemetry)"}</dd>
        <dt>Span ID</dt>
        <dd><Id id={span.span_id} label="span ID" /></dd>
        <dt>Trace ID</dt>
        <dd><Id id={span.trace_id} label="trace ID" /></dd>
        {span.effective_trace_id !== span.trace_id && (
          <>
            <dt>Logs carry</dt>
            <dd><Id id={span.effective_trace_id} label="OpenTelemetry trace ID" /> <span class="faint">the OpenTelemetry trace it is linked to</span></dd>
          </>
        )}
      </dl>
    </>
  );
}

/** Only there where a request or a response came in several pieces. */
function Piece({ label, word, ns }: { label: string; word: string; ns: string | undefined }) {
  if (ns === undefined || !/^\d+$/.test(ns)) return null;
  return (
    <>
      <dt>{label}</dt>
      <dd>{word} {formatDuration(Number(ns))}</dd>
    </>
  );
}

/** How much of the call the server itself took, where its own sight was joined. */
function ServerShare({ span }: { span: Span }) {
  const server = span.attributes["farcall.server.duration_ns"];
  if (server === undefined || !/^\d+$/.test(server)) return null;
  const rest = Math.max(0, Number(span.duration_ns) - Number(server));
  return <span class="faint"> · {formatDuration(Number(server))} in the server, {formatDuration(rest)} network and queueing</span>;
}

function AllAttributes({ span }: { span: Span }) {
  if (Object.keys(span.attributes).length + Object.keys(span.resource).length === 0) return <p class="faint">This span has no attributes.</p>;
  return (
    <>
      <Attributes title="Span" values={span.attributes} />
      <Attributes title="Resource" values={span.resource} />
    </>
  );
}

function moveTab(event: KeyboardEvent, tab: Tab, choose: (tab: Tab) => void): void {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (step === 0) return;
  const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length] as Tab;
  event.preventDefault();
  choose(next);
  document.getElementById(`tab-${next}`)?.focus();
}

function tabOf(text: string | null): Tab {
  return TABS.find((tab) => tab === text) ?? "overview";
}
