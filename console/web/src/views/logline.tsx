// One log line: closed it is one row, open it shows the whole message and the attributes, each with a filter of its own.
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { attributeIs, type Filter, renderFilter } from "../lib/filters.ts";
import { formatClock, formatRfc3339, formatTime } from "../lib/nanos.ts";
import { linkable, oneLine, visible } from "../lib/text.ts";
import type { LogLine as Line } from "../types.ts";
import { CopyButton, Icon, Id, Service } from "./parts.tsx";

interface LogLineProps {
  readonly line: Line;
  readonly withDay: boolean;
  readonly onFilter: (filter: Filter) => void;
  readonly hideTrace: boolean; // inside the trace itself
}

export function LogLine({ line, withDay, onFilter, hideTrace }: LogLineProps) {
  const [open, setOpen] = useState(false);
  const time = BigInt(line.time_ns);
  const severity = line.severity.toLowerCase() || "none";
  return (
    <li class={`log log-${severity}`}>
      <button type="button" class="log-row" aria-expanded={open} onClick={() => setOpen(!open)}>
        <time dateTime={formatRfc3339(time)} title={formatRfc3339(time)}>{withDay ? formatTime(time) : formatClock(time)}</time>
        <span class={`severity severity-${severity}`}>{oneLine(line.severity, 12) || "–"}</span>
        <Service name={line.service} />
        <span class="log-body">{oneLine(line.body, 600) || <i class="faint">empty message</i>}</span>
      </button>
      {open && <Details line={line} onFilter={onFilter} hideTrace={hideTrace} />}
    </li>
  );
}

function Details({ line, onFilter, hideTrace }: Omit<LogLineProps, "withDay">) {
  return (
    <div class="log-details">
      <pre class="log-full" tabIndex={0} aria-label="Whole message">{visible(line.body)}</pre>
      <p class="log-ids">
        <CopyButton text={line.body} label="Copy the message">Copy message</CopyButton>
        {line.trace_id !== "" && !hideTrace && <a class="button" href={traceUrl(line)}>Open trace</a>}
        {line.trace_id !== "" && <span>Trace <Id id={line.trace_id} label="trace ID" /></span>}
        {line.span_id !== "" && <span>Span <Id id={line.span_id} label="span ID" /></span>}
      </p>
      <Attributes title="Attributes" values={line.attributes} onFilter={onFilter} />
      <Attributes title="Resource" values={line.resource} onFilter={onFilter} />
    </div>
  );
}

export function Attributes({ title, values, onFilter }: { title: string; values: Readonly<Record<string, string>>; onFilter?: (filter: Filter) => void }) {
  const entries = Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length === 0) return null;
  return (
    <table class="attributes">
      <caption>{title}</caption>
      <tbody>
        {entries.map(([key, value]) => (
          <tr key={key}>
            <th scope="row">{breakable(visible(key))}</th>
            <td><Value text={value} /></td>
            <td class="attribute-actions">
              {onFilter !== undefined && renderFilter(attributeIs(key, value)) !== "" && (
                <>
                  <button type="button" class="icon-button" aria-label={`Only lines with this ${visible(key)}`} title="Only lines with this value" onClick={() => onFilter(attributeIs(key, value))}><Icon name="plus" /></button>
                  <button type="button" class="icon-button" aria-label={`No lines with this ${visible(key)}`} title="No lines with this value" onClick={() => onFilter(attributeIs(key, value, true))}><Icon name="minus" /></button>
                </>
              )}
              <CopyButton text={value} label={`Copy ${visible(key)}`} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A long key goes on in the next line after a dot or an underscore, not within a word. */
function breakable(key: string): (string | VNode)[] {
  return key.split(/(?<=[._])/).flatMap((part, index) => (index === 0 ? [part] : [<wbr key={index} />, part]));
}

function Value({ text }: { text: string }) {
  const href = linkable(text);
  return <span class="value">{href === null ? visible(text) : <a href={href} target="_blank" rel="noopener noreferrer">{text}</a>}</span>;
}

function traceUrl(line: Line): string {
  const span = line.span_id === "" ? "" : `?span=${line.span_id}`;
  return `/traces/${line.trace_id}${span}`;
}
