// The status page: who speaks, what is off and why, what was lost. Asks again by itself while it is looked at.
import { useEffect, useState } from "preact/hooks";
import { readStatus } from "../api.ts";
import { formatAgo, formatDuration, formatTime, zoneName } from "../lib/nanos.ts";
import { visible } from "../lib/text.ts";
import { useLoaded } from "../loading.ts";
import type { ComponentStatus, Status } from "../types.ts";
import { Empty, Icon, ProblemNotice, Waiting } from "./parts.tsx";

const REFRESH_MS = 5_000;
// As farcall_console.status has it: days that retention takes away are no loss.
const LOSS = /^(?!expired_days_).*_(lost|dropped|refused)$/;

export function StatusPage() {
  const [asked, setAsked] = useState(0);
  const { data, problem } = useLoaded(String(asked), readStatus);
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && setAsked((n) => n + 1), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <header class="page-head">
        <h1>Status</h1>
        <p class="faint">What each part last said of itself. Refreshes every {REFRESH_MS / 1_000} s, times in {zoneName()}.</p>
      </header>
      {problem !== null && <ProblemNotice problem={problem} onRetry={() => setAsked(asked + 1)} />}
      {data === null ? problem === null && <Waiting what="the status" /> : <StatusView status={data} />}
    </>
  );
}

function StatusView({ status }: { status: Status }) {
  return (
    <>
      {status.dns_ttl_overridden && (
        <div class="notice notice-loud" role="alert">
          <p><strong>The DNS time to live is overridden to {formatDuration(status.dns_ttl_s * 1e9)}.</strong> This is for tests only: names expire earlier than the {status.tier} tier promises.</p>
        </div>
      )}
      <Warnings warnings={status.warnings.filter((warning) => !(status.dns_ttl_overridden && warning.startsWith("The DNS time to live is overridden")))} />
      <dl class="facts facts-wide">
        <dt>Instance</dt>
        <dd>{visible(status.name)}, {status.tier} tier</dd>
        <dt>Config</dt>
        <dd>generation {status.config_generation}, revision <code>{status.config_revision}</code></dd>
        <dt>Version</dt>
        <dd>{status.version}</dd>
        <dt>DNS answers kept for</dt>
        <dd>{formatDuration(status.dns_ttl_s * 1e9)}</dd>
        <dt>Inside the cluster ({status.cluster_cidrs_source})</dt>
        <dd>{status.cluster_cidrs.map((cidr) => <code key={cidr} class="cidr">{cidr}</code>)}</dd>
      </dl>
      {status.components.length === 0 && <Empty title="No component has spoken yet"><p>Agents and exporters report every few seconds once they run.</p></Empty>}
      {status.components.map((component) => <Component key={`${component.kind} ${component.name}`} component={component} />)}
    </>
  );
}

function Warnings({ warnings }: { warnings: readonly string[] }) {
  if (warnings.length === 0) return <p class="notice notice-good"><Icon name="check" /> Nothing is lost, nothing is off, everything speaks.</p>;
  return (
    <div class="notice notice-warn">
      <h2>To look at</h2>
      <ul>{warnings.map((warning) => <li key={warning}>{visible(warning)}</li>)}</ul>
    </div>
  );
}

function Component({ component }: { component: ComponentStatus }) {
  const title = `${component.kind} ${component.name}`;
  return (
    <section class="component" aria-label={visible(title)}>
      <header>
        <h2>{component.kind} <span>{visible(component.name)}</span></h2>
        <span class={component.alive ? "badge badge-good" : "badge badge-bad"}>{component.alive ? "alive" : "silent"}</span>
        <span class="faint">spoke {formatAgo(BigInt(component.seen_ns))} · since {formatTime(BigInt(component.started_ns), 0)} · version {visible(component.version)} · generation {component.config_generation}{component.config_revision === "" ? "" : `, revision ${visible(component.config_revision)}`}</span>
      </header>
      <Capabilities capabilities={component.capabilities} />
      <div class="numbers">
        <Numbers title="Lost" entries={Object.entries(component.counters).filter(([name]) => LOSS.test(name))} zeroIsGood />
        <Numbers title="Counted" entries={Object.entries(component.counters).filter(([name]) => !LOSS.test(name))} />
        <Numbers title="Now" entries={Object.entries(component.gauges).map(([name, value]) => [name, formatGauge(name, value)])} />
      </div>
    </section>
  );
}

function Capabilities({ capabilities }: { capabilities: readonly Readonly<Record<string, string>>[] }) {
  if (capabilities.length === 0) return null;
  const sorted = [...capabilities].sort((a, b) => Number(a.on === "true") - Number(b.on === "true"));
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Capabilities">
      <table>
        <thead><tr><th scope="col">Can see</th><th scope="col">State</th><th scope="col">Why it is off</th><th scope="col">What that costs</th></tr></thead>
        <tbody>
          {sorted.map((each) => (
            <tr key={each.name}>
              <th scope="row">{visible(each.name ?? "")}</th>
              <td><span class={each.on === "true" ? "badge badge-good" : "badge badge-bad"}>{each.on === "true" ? "on" : "off"}</span></td>
              <td>{visible(each.why ?? "")}</td>
              <td>{visible(each.cost ?? "")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Numbers({ title, entries, zeroIsGood = false }: { title: string; entries: readonly (readonly [string, string])[]; zeroIsGood?: boolean }) {
  if (entries.length === 0) return null;
  return (
    <table class="counters">
      <caption>{title}</caption>
      <tbody>
        {[...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => (
          <tr key={name} class={zeroIsGood && value !== "0" ? "loss" : undefined}>
            <th scope="row">{visible(name).replace(/_/g, " ")}</th>
            <td class="number">{/^\d+$/.test(value) ? BigInt(value).toLocaleString("en") : visible(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function formatGauge(name: string, value: number): string {
  if (name.endsWith("_bytes")) return value >= 1 << 20 ? `${(value / (1 << 20)).toFixed(1)} MiB` : `${(value / 1024).toFixed(1)} KiB`;
  if (name.endsWith("_seconds") || name.endsWith("_s")) return formatDuration(value * 1e9);
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}
