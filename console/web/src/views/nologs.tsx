// Why there is no log line to show, and what to do about it. An empty list without a reason looks like a fault.
import { readTrace } from "../api.ts";
import type { LogState } from "../lib/logview.ts";
import { plural } from "../lib/text.ts";
import { useLoaded } from "../loading.ts";
import type { Trace } from "../types.ts";
import { Empty } from "./parts.tsx";
import { describe } from "./timerange.tsx";

// Enough to see whether anything in the trace is linked; a trace that is linked at all is so at its start.
const EXPLAINING_SPANS = 200;

interface NoLogsProps {
  readonly state: LogState;
  readonly outside: number;
  readonly onChange: (changes: Partial<LogState>) => void;
}

export function NoLogs({ state, outside, onChange }: NoLogsProps) {
  if (outside > 0) {
    return (
      <Empty title="No line in this time range">
        <p>{plural(outside, "line")} {outside === 1 ? "lies" : "lie"} outside it ({describe(state.range)}).</p>
        <button type="button" class="button" onClick={() => onChange({ range: { kind: "all" } })}>Show everything kept</button>
      </Empty>
    );
  }
  if (state.q !== "") {
    return (
      <Empty title="No line matches this search">
        <button type="button" class="button" onClick={() => onChange({ q: "" })}>Clear the search</button>
      </Empty>
    );
  }
  const trace = state.traces[0];
  if (trace !== undefined) return <NoLogsOfTrace traceId={trace} ofSpan={state.spans.length > 0} />;
  return (
    <Empty title={`No log line in ${describe(state.range)}`}>
      <p>Applications send log lines by OTLP over HTTP. Choose a wider time range if they did so before.</p>
    </Empty>
  );
}

function NoLogsOfTrace({ traceId, ofSpan }: { traceId: string; ofSpan: boolean }) {
  const { data, loading } = useLoaded(traceId, (signal) => readTrace(traceId, EXPLAINING_SPANS, signal));
  if (loading) return null;
  if (data === null) {
    return (
      <Empty title="No log line carries this trace ID">
        <p>No span of this trace is stored either. It is unknown, or it is older than what is kept.</p>
      </Empty>
    );
  }
  if (!isLinked(data)) {
    return (
      <Empty title="This trace is not linked to an OpenTelemetry trace">
        <p>Log lines can carry a trace ID only if the application knows one. farcall saw these calls in the kernel, and they carried no <code>traceparent</code> header.</p>
        <p>Instrument the application with an OpenTelemetry SDK: its calls then carry the header, farcall links them by itself, and its lines appear here.</p>
      </Empty>
    );
  }
  return (
    <Empty title={ofSpan ? "No log line carries this span's ID" : "No log line carries this trace ID"}>
      <p>{ofSpan ? "Other spans of the trace may have some: View Logs shows them all." : "The application is traced, but sends no log lines with its trace ID. Send its logs by OTLP from the same SDK."}</p>
    </Empty>
  );
}

function isLinked(trace: Trace): boolean {
  return trace.spans.some((span) => span.source !== "ebpf" || span.effective_trace_id !== span.trace_id || span.links.length > 0);
}
