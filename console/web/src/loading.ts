// One question to the API as state of a component: asked again when its key changes, the answer before it given up.
import { useEffect, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import type { Problem } from "./types.ts";

export interface Loaded<T> {
  readonly data: T | null; // the last answer, kept while the next one is on its way
  readonly problem: Problem | null;
  readonly loading: boolean;
}

export function useLoaded<T>(key: string, ask: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<Loaded<T> & { key: string }>({ key: "", data: null, problem: null, loading: true });
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    ask(abort.signal).then(
      (data) => setState({ key, data, problem: null, loading: false }),
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState({ key, data: null, problem: problemOf(error), loading: false });
      },
    );
    return () => abort.abort();
  }, [key]);
  return state.key === key ? state : { ...state, loading: true };
}

export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return { type: "about:blank", title: "Fault", status: 0, detail: `The page failed: ${String(error)}` };
}
