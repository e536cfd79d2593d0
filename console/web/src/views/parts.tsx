// Small pieces that several pages use. They draw what they are given and decide nothing.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { serviceColour } from "../lib/colour.ts";
import { formatRfc3339, formatTime } from "../lib/nanos.ts";
import { shortReason, UNKNOWN } from "../lib/reasons.ts";
import { oneLine, shortId, visible } from "../lib/text.ts";
import type { Problem } from "../types.ts";

const COPIED_MS = 1_600;

export function Service({ name }: { name: string }) {
  return (
    <span class="service" title={visible(name)}>
      <span class={`dot service-${serviceColour(name)}`} aria-hidden="true" />
      {name === "" ? <i class="faint">no service name</i> : oneLine(name, 120)}
    </span>
  );
}

export function Destination({ name, reason }: { name: string; reason: string }) {
  if (name === "") return null;
  if (name !== UNKNOWN && reason === "") return <span class="destination" title={visible(name)}>{oneLine(name, 160)}</span>;
  return (
    <span class="destination unknown" title={reason === "" ? name : `${name}: ${shortReason(reason)}`}>
      <Icon name="question" /> {oneLine(name, 160)}
      {reason !== "" && <span class="reason"> · {shortReason(reason)}</span>}
    </span>
  );
}

export function Time({ ns, digits = 3 }: { ns: string; digits?: 0 | 3 | 6 | 9 }) {
  const value = BigInt(ns);
  return <time dateTime={formatRfc3339(value)} title={formatRfc3339(value)}>{formatTime(value, digits)}</time>;
}

export function CopyButton({ text, label, children }: { text: string; label: string; children?: ComponentChildren }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), COPIED_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => void copyText(text).then(() => setCopied(true));
  return (
    <button type="button" class={children === undefined ? "icon-button" : "button"} aria-label={children === undefined ? label : undefined} title={label} onClick={copy}>
      <Icon name={copied ? "check" : "copy"} />
      {children}
      <span class="visually-hidden" role="status">{copied ? "Copied" : ""}</span>
    </button>
  );
}

export function Id({ id, label }: { id: string; label: string }) {
  return (
    <span class="id">
      <code title={id}>{shortId(id)}</code>
      <CopyButton text={id} label={`Copy ${label}`} />
    </span>
  );
}

export function ProblemNotice({ problem, onRetry }: { problem: Problem; onRetry?: () => void }) {
  return (
    <div class="notice notice-error" role="alert">
      <p><strong>{visible(problem.title)}.</strong> {visible(problem.detail)}</p>
      {problem.status === 401 && <p><a href={location.href}>Sign in again</a></p>}
      {onRetry && problem.status !== 401 && problem.status !== 400 && <button type="button" class="button" onClick={onRetry}>Try again</button>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty" role="status">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** Shown only when an answer takes long enough to be waited for (the style delays it). */
export function Waiting({ what }: { what: string }) {
  return <p class="waiting" role="status">Loading {what}…</p>;
}

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={ICONS[name]} />
    </svg>
  );
}

const ICONS = {
  question: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM6 6.2a2 2 0 1 1 2.8 1.9c-.5.2-.8.6-.8 1.1v.3M8 11.6v.1",
  copy: "M6 5.5h6.5a.5.5 0 0 1 .5.5v7.5a.5.5 0 0 1-.5.5H6a.5.5 0 0 1-.5-.5V6a.5.5 0 0 1 .5-.5ZM10.500 3V2.500a.5.5 0 0 0-.5-.5H3.500a.5.5 0 0 0-.5.5V10a.5.5 0 0 0 .5.5",
  check: "m3 8.500 3.300 3.300L13 5",
  logs: "M3 4h10M3 8h10M3 12h6",
  share: "M8 9.500V2M5.500 4.200 8 1.800l2.500 2.400M4 7H3v7h10V7h-1",
  close: "m4 4 8 8M12 4l-8 8",
  search: "M7 2.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9ZM10.300 10.300 14 14",
  error: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13ZM8 4.500v4.200M8 11v.1",
  right: "m6 3.500 4.500 4.500L6 12.500",
  down: "m3.500 6 4.500 4.500L12.500 6",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  refresh: "M13 8a5 5 0 1 1-1.600-3.700M13 2v3h-3",
} as const;

/** Without the clipboard's permission (plain http on another host) a selected field does. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // falls through to the older way
    }
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("readonly", "");
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
