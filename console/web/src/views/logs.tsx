// The logs page: the log view with its state in the URL.
import { useMemo } from "preact/hooks";
import { buildLogParams, isSameRange, type LogState, parseLogState, type Range } from "../lib/logview.ts";
import { place, setParams } from "../place.ts";
import { LogView } from "./logview.tsx";

export function LogsPage() {
  const state = parseLogState(place.value.searchParams);
  const opened = useMemo(() => (state.traces.length > 0 && state.range.kind === "between" ? state.range : undefined), [state.traces.join()]);
  const set: { set?: Range } = opened === undefined ? {} : { set: opened };
  const change = (next: LogState) => setParams(buildLogParams(next));
  const ofTrace = state.traces.length > 0;
  return (
    <>
      <header class="page-head">
        <h1>{ofTrace ? "Logs of a trace" : "Logs"}</h1>
        <p class="faint">{ofTrace ? opened !== undefined && isSameRange(state.range, opened) ? "Every line of the whole request flow. The time range was set from the trace." : "Every line of the whole request flow." : "Lines that applications sent, joined to their traces."}</p>
        {ofTrace && <a class="button" href={`/traces/${state.traces[0]}${state.spans[0] === undefined ? "" : `?span=${state.spans[0]}`}`}>Back to the trace</a>}
      </header>
      <LogView state={state} locked={false} onChange={change} {...set} />
    </>
  );
}
