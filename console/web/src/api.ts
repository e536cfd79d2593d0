// Asks the HTTP API. An answer that is not the data asked for is an ApiError with the problem in it; nothing else is thrown.
import type { Evidence, LogHistogram, LogPage, Problem, Status, Trace, TracePage } from "./types.ts";
import { type LogState, resolveRange, type Range } from "./lib/logview.ts";

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

export interface PageOf {
  readonly limit?: number;
  readonly cursor?: string | null;
}

export function listTraces(q: string, range: Range, now: bigint, page: PageOf, signal: AbortSignal): Promise<TracePage> {
  const params = new URLSearchParams();
  if (q !== "") params.set("q", q);
  setBounds(params, range, now);
  setPage(params, page);
  return ask(`/api/v1/traces?${params}`, signal);
}

export function readTrace(traceId: string, limit: number, signal: AbortSignal): Promise<Trace> {
  return ask(`/api/v1/traces/${encodeURIComponent(traceId)}?limit=${limit}`, signal);
}

export function readEvidence(traceId: string, spanId: string, signal: AbortSignal): Promise<Evidence> {
  return ask(`/api/v1/traces/${encodeURIComponent(traceId)}/spans/${encodeURIComponent(spanId)}/evidence`, signal);
}

export function listLogs(state: LogState, now: bigint, page: PageOf, signal: AbortSignal): Promise<LogPage> {
  const params = logParams(state, now);
  params.set("order", state.order);
  setPage(params, page);
  return ask(`/api/v1/logs?${params}`, signal);
}

export function countLogs(state: LogState, now: bigint, signal: AbortSignal): Promise<LogHistogram> {
  return ask(`/api/v1/logs/histogram?${logParams(state, now)}`, signal);
}

export function readStatus(signal: AbortSignal): Promise<Status> {
  return ask("/api/v1/status", signal);
}

function logParams(state: LogState, now: bigint): URLSearchParams {
  const params = new URLSearchParams();
  if (state.q !== "") params.set("q", state.q);
  for (const id of state.traces) params.append("trace", id);
  for (const id of state.spans) params.append("span", id);
  setBounds(params, state.range, now);
  return params;
}

function setBounds(params: URLSearchParams, range: Range, now: bigint): void {
  const { from, to } = resolveRange(range, now);
  if (from !== undefined) params.set("from", String(from));
  if (to !== undefined) params.set("to", String(to));
}

function setPage(params: URLSearchParams, page: PageOf): void {
  if (page.limit !== undefined) params.set("limit", String(page.limit));
  if (page.cursor) params.set("cursor", page.cursor);
}

async function ask<T>(path: string, signal: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(problem(0, "No connection", "The console does not answer. Is it still running?"));
  }
  if (response.ok) return (await response.json()) as T;
  throw new ApiError(await readProblem(response));
}

async function readProblem(response: Response): Promise<Problem> {
  if (response.status === 401) {
    return problem(401, "Signed out", "Your session has ended. Sign in again with the link that `farcall login` prints.");
  }
  try {
    return (await response.json()) as Problem;
  } catch {
    return problem(response.status, response.statusText, `The console answered ${response.status}.`);
  }
}

function problem(status: number, title: string, detail: string): Problem {
  return { type: "about:blank", title, status, detail };
}
