// Words of the search language, composed. The query text is the only truth: a filter is added as text that a person
// could have typed, and can be edited like any other. What the language means is decided by the server alone.

export type Where = "message" | "attribute";
export type Match = "contains" | "regex" | "is" | "exists";

export interface Filter {
  readonly where: Where;
  readonly key: string; // of the attribute
  readonly match: Match;
  readonly value: string;
  readonly not: boolean;
}

const BARE = /^[\p{L}\p{N}_][\p{L}\p{N}_.@-]*$/u;
const WORDS = new Set(["AND", "OR", "NOT"]);

/** The text of one filter, or "" when there is nothing to filter by. */
export function renderFilter(filter: Filter): string {
  const term = filter.where === "message" ? renderMessage(filter) : renderAttribute(filter);
  return term === "" ? "" : `${filter.not ? "-" : ""}${term}`;
}

export function addFilter(query: string, filter: Filter): string {
  const term = renderFilter(filter);
  return term === "" ? query : [query.trim(), term].filter((part) => part !== "").join(" ");
}

export function attributeIs(key: string, value: string, not = false): Filter {
  return { where: "attribute", key, match: "is", value, not };
}

/** A value that means itself: bare where it is one word, in quotes where it is not. */
export function quote(value: string): string {
  if (BARE.test(value) && !WORDS.has(value)) return value;
  return `"${value.replace(/[\\"]/g, "\\$&")}"`;
}

/** A pattern between slashes. */
export function slashed(pattern: string): string {
  return `/${pattern.replace(/\\[\s\S]|\//g, (found) => (found === "/" ? "\\/" : found))}/`;
}

function renderMessage(filter: Filter): string {
  if (filter.value.trim() === "") return "";
  return filter.match === "regex" ? slashed(filter.value) : quote(filter.value.trim());
}

function renderAttribute(filter: Filter): string {
  if (filter.key.trim() === "") return "";
  const key = quote(filter.key.trim());
  if (filter.match === "exists") return `${key}:*`;
  if (filter.value === "") return "";
  return `${key}:${filter.match === "regex" ? slashed(filter.value) : quote(filter.value)}`;
}
