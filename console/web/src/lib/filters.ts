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

const BARE = /^[\p{L}\p{N}_](?:[\p{L}\p{N}_@-]|\.(?!\.))*$/u; // `1..5` would be a range
const WORDS = new Set(["AND", "OR", "NOT"]);
const KEY = /^[\p{L}_@][\p{L}\p{N}_.\-/]*$/u; // what the grammar can read as a key; others cannot be searched by
const MAX_PATTERN = 1_024;
const UNSEARCHABLE = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

// Words with a meaning of their own: as attributes of a line they cannot be told apart.
const RESERVED = new Set(["trace", "span", "service", "level", "severity", "body", "message", "msg", "event", "is"]);

export const LEVELS = ["debug", "info", "warn", "error"] as const;
const LEVEL = /(^|\s)level>=(\w+)(?=\s|$)/;

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

/** The least severe level a query asks for, "" for any. */
export function levelOf(query: string): string {
  return LEVEL.exec(query)?.[2] ?? "";
}

export function withLevel(query: string, level: string): string {
  const rest = query.replace(LEVEL, " ").trim();
  return level === "" ? rest : [rest, `level>=${level}`].filter((part) => part !== "").join(" ");
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
  if (filter.value.trim() === "" || !isSearchable(filter)) return "";
  return filter.match === "regex" ? slashed(filter.value) : quote(filter.value.trim());
}

function renderAttribute(filter: Filter): string {
  const key = filter.key.trim();
  if (!KEY.test(key) || RESERVED.has(key) || !isSearchable(filter)) return "";
  if (filter.match === "exists") return `${key}:*`;
  if (filter.value === "") return "";
  return `${key}:${filter.match === "regex" ? slashed(filter.value) : quote(filter.value)}`;
}

function isSearchable(filter: Filter): boolean {
  if (UNSEARCHABLE.test(filter.value)) return false;
  return filter.match !== "regex" || (!filter.value.includes("\n") && filter.value.length <= MAX_PATTERN);
}
