// "Why this name?": the rule that decided, what it rested on, and what to change.
import { readEvidence } from "../api.ts";
import { formatDuration, formatTime, since, zoneName } from "../lib/nanos.ts";
import { confidenceName, sourceName } from "../lib/reasons.ts";
import { visible } from "../lib/text.ts";
import { useLoaded } from "../loading.ts";
import type { DnsEvidence, Evidence } from "../types.ts";
import { Destination, ProblemNotice, Service, Time, Waiting } from "./parts.tsx";

export function EvidenceView({ traceId, spanId }: { traceId: string; spanId: string }) {
  const { data, problem, loading } = useLoaded(`${traceId} ${spanId}`, (signal) => readEvidence(traceId, spanId, signal));
  if (problem !== null) return <ProblemNotice problem={problem} />;
  if (data === null || loading) return <Waiting what="the evidence" />;
  return (
    <div class="evidence">
      <div class={`verdict ${data.unknown_reason === "" ? "" : "verdict-unknown"}`}>
        {data.label !== "" && <p class="verdict-label"><Destination name={data.label} reason="" /></p>}
        <p>{visible(data.rule)}</p>
        {data.advice !== "" && <p class="advice"><strong>What to do: </strong>{visible(data.advice)}</p>}
      </div>
      <Facts evidence={data} />
      <Answers evidence={data} />
    </div>
  );
}

function Facts({ evidence }: { evidence: Evidence }) {
  return (
    <dl class="facts">
      {evidence.source !== "" && <><dt>Named by</dt><dd>{sourceName(evidence.source)}</dd></>}
      {evidence.confidence !== "" && <><dt>Confidence</dt><dd>{confidenceName(evidence.confidence, evidence.source)}</dd></>}
      {evidence.peer !== "" && <><dt>Address called</dt><dd><code>{visible(evidence.peer)}</code></dd></>}
      <dt>Call</dt>
      <dd><Time ns={evidence.span_time_ns} digits={6} /></dd>
      <dt>Connection opened</dt>
      <dd>{evidence.connection_opened_ns === "" ? <span class="faint">not seen: older than the agent, or not written down</span> : <><Time ns={evidence.connection_opened_ns} digits={6} /> <Before ns={evidence.connection_opened_ns} call={evidence.span_time_ns} /></>}</dd>
      <dt>DNS answer</dt>
      <dd>{evidence.answered_at_ns === "" ? <span class="faint">none was used</span> : <><Time ns={evidence.answered_at_ns} digits={6} /> <Before ns={evidence.answered_at_ns} call={evidence.span_time_ns} /></>}</dd>
      <dt>Kept for</dt>
      <dd>{formatDuration(evidence.ttl_s * 1e9)} ({evidence.ttl_overridden ? "overridden for a test" : `${evidence.tier} tier`}){evidence.age_s !== null && <Age age={evidence.age_s} ttl={evidence.ttl_s} />}</dd>
      {evidence.rivals.length > 0 && <><dt>{evidence.unknown_reason === "" ? "Other names" : "Names seen"}</dt><dd>{evidence.rivals.map(visible).join(", ")} <span class="faint">led to the same address</span></dd></>}
      {evidence.client !== "" && <><dt>Client</dt><dd><Service name={evidence.service} /> <code class="faint wrap">{visible(evidence.client)}</code></dd></>}
    </dl>
  );
}

function Before({ ns, call }: { ns: string; call: string }) {
  const gap = since(BigInt(ns), BigInt(call));
  return <span class="faint">{formatDuration(Math.abs(gap))} {gap < 0 ? "after" : "before"} the call</span>;
}

function Age({ age, ttl }: { age: number; ttl: number }) {
  const share = Math.min(1, age / ttl);
  return (
    <span class={age >= ttl ? "age age-over" : "age"}>
      {" "}· the answer was {formatDuration(age * 1e9)} old
      <span class="age-bar" aria-hidden="true"><span style={{ width: `${share * 100}%` }} /></span>
    </span>
  );
}

function Answers({ evidence }: { evidence: Evidence }) {
  if (evidence.answers.length === 0) {
    return evidence.label === "" || evidence.peer === "" ? null : <p class="faint">No DNS answer that this client got and that leads to this address is stored.</p>;
  }
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="DNS answers">
      <table class="answers">
        <caption>DNS answers that led to this address <span class="faint">({zoneName()})</span></caption>
        <thead><tr><th scope="col">Time</th><th scope="col">Asked for</th><th scope="col">Answer</th><th scope="col">Resolver</th><th scope="col">Asked by</th></tr></thead>
        <tbody>{evidence.answers.map((answer) => <AnswerRow key={`${answer.time_ns} ${answer.question} ${answer.client}`} answer={answer} />)}</tbody>
      </table>
    </div>
  );
}

function AnswerRow({ answer }: { answer: DnsEvidence }) {
  return (
    <tr class={answer.used ? "used" : undefined}>
      <td class="number">{formatTime(BigInt(answer.time_ns))}</td>
      <td>{visible(answer.question)}{answer.used && <span class="badge">this one</span>}</td>
      <td><code>{visible(answer.address)}</code>{answer.canonical_name !== "" && <span class="faint"> via {visible(answer.canonical_name)}</span>}</td>
      <td><code>{visible(answer.resolver)}</code></td>
      <td>{visible(answer.service || answer.client)}</td>
    </tr>
  );
}
