// Where the page is: its URL as a signal. All view state that a link should carry goes through here, so Back works.
import { signal } from "@preact/signals";

export const place = signal(new URL(location.href));

addEventListener("popstate", () => {
  place.value = new URL(location.href);
});

/** Changes the query of this page. `replace` for what is not a step of its own, such as a selection moved by keys. */
export function setParams(params: URLSearchParams, how: "push" | "replace" = "push"): void {
  const url = new URL(place.value);
  url.search = params.toString();
  if (url.href === place.value.href) return;
  if (how === "push") history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  place.value = url;
}

/** The present query with some keys changed; null removes one. */
export function changedParams(changes: Readonly<Record<string, string | null>>): URLSearchParams {
  const params = new URLSearchParams(place.value.search);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) params.delete(key);
    else params.set(key, value);
  }
  return params;
}

/** The present query without the keys that start with `prefix`, and with those of `others` added. */
export function mergedParams(prefix: string, others: URLSearchParams): URLSearchParams {
  const params = new URLSearchParams();
  for (const [key, value] of place.value.searchParams) if (!key.startsWith(prefix)) params.append(key, value);
  for (const [key, value] of others) params.append(key, value);
  return params;
}
