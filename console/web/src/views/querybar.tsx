// The one-line query, with a caret under what cannot be understood and a small form that writes filters into it.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { addFilter, type Filter, type Match, renderFilter, type Where } from "../lib/filters.ts";
import { visible } from "../lib/text.ts";
import type { Problem } from "../types.ts";
import { Icon } from "./parts.tsx";

interface QueryBarProps {
  readonly label: string;
  readonly placeholder: string;
  readonly value: string;
  readonly problem: Problem | null;
  readonly onSearch: (query: string) => void;
  readonly withMessage: boolean; // log lines have one, spans do not
}

export function QueryBar(props: QueryBarProps) {
  const [text, setText] = useState(props.value);
  const [building, setBuilding] = useState(false);
  const [helping, setHelping] = useState(false);
  const errorId = useId();
  useEffect(() => setText(props.value), [props.value]);
  const problem = props.problem?.field === "q" ? props.problem : null;
  const submit = (event: Event) => {
    event.preventDefault();
    props.onSearch(text.trim());
  };
  const add = (filter: Filter) => {
    setBuilding(false);
    props.onSearch(addFilter(text, filter));
  };
  return (
    <div class="querybar">
      <form role="search" onSubmit={submit}>
        <span class="querybar-field">
          <Icon name="search" />
          <input
            type="text"
            aria-label={props.label}
            aria-invalid={problem !== null}
            aria-describedby={problem !== null ? errorId : undefined}
            placeholder={props.placeholder}
            spellcheck={false}
            autocomplete="off"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          {text !== "" && (
            <button type="button" class="icon-button" aria-label="Clear the search" onClick={() => { setText(""); props.onSearch(""); }}>
              <Icon name="close" />
            </button>
          )}
        </span>
        <button type="submit" class="button primary">Search</button>
        <button type="button" class="button" aria-expanded={building} onClick={() => setBuilding(!building)}>
          <Icon name="plus" /> Filter
        </button>
        <button type="button" class="button" aria-expanded={helping} onClick={() => setHelping(!helping)}>Syntax</button>
      </form>
      {problem !== null && <QueryProblem id={errorId} query={props.value} problem={problem} />}
      {helping && <Syntax withMessage={props.withMessage} />}
      {building && <FilterForm withMessage={props.withMessage} onAdd={add} onClose={() => setBuilding(false)} />}
    </div>
  );
}

function QueryProblem({ id, query, problem }: { id: string; query: string; problem: Problem }) {
  const at = Math.min(problem.position ?? query.length, query.length);
  return (
    <div id={id} class="query-problem" role="alert">
      <p>{visible(problem.detail)}</p>
      <pre aria-hidden="true">{visible(query.slice(0, at))}<mark>{visible(query.slice(at, at + 1)) || " "}</mark>{visible(query.slice(at + 1))}</pre>
    </div>
  );
}

const SYNTAX: readonly (readonly [string, string])[] = [
  ["timeout payment", "both words, anywhere, letter case apart"],
  ['"order 1042 placed"', "the phrase as written"],
  ["time*", "words that begin like this"],
  ["/conn(ection)? refused/", "a regular expression (RE2)"],
  ["http.request.method:POST", "an attribute's value; * stands for anything"],
  ["order.id:*", "the attribute is there"],
  ["error.details:/refused|reset/", "an attribute by regular expression"],
  ["http.response.status_code>=500", "numbers compare; a..b is a range"],
  ["-health", "not this one"],
  ["(red OR blue) service:shop", "either, in brackets"],
];
const LOG_SYNTAX = [["level>=warn", "by severity"], ["trace:… span:…", "by ID"]] as const;
const SPAN_SYNTAX = [["is:unknown", "also is:server, is:client, is:root, is:error, is:external, is:linked"], ["unknown:no_dns_seen", "by the reason"], ["destination:api.example.com duration>100ms", "by destination, by duration"]] as const;

function Syntax({ withMessage }: { withMessage: boolean }) {
  return (
    <dl class="syntax">
      {[...SYNTAX, ...(withMessage ? LOG_SYNTAX : SPAN_SYNTAX)].map(([example, meaning]) => (
        <div key={example}><dt><code>{example}</code></dt><dd>{meaning}</dd></div>
      ))}
    </dl>
  );
}

const MATCHES: Readonly<Record<Where, readonly (readonly [Match, string])[]>> = {
  message: [["contains", "contains"], ["regex", "matches the regular expression"]],
  attribute: [["is", "is"], ["regex", "matches the regular expression"], ["exists", "is there"]],
};

function FilterForm({ withMessage, onAdd, onClose }: { withMessage: boolean; onAdd: (filter: Filter) => void; onClose: () => void }) {
  const [filter, setFilter] = useState<Filter>({ where: withMessage ? "message" : "attribute", key: "", match: withMessage ? "contains" : "is", value: "", not: false });
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector<HTMLElement>("select, input")?.focus(), []);
  const change = (changes: Partial<Filter>) => setFilter({ ...filter, ...changes });
  const chooseWhere = (where: Where) => change({ where, match: MATCHES[where][0]?.[0] ?? "is" });
  const rendered = renderFilter(filter);
  const submit = (event: Event) => {
    event.preventDefault();
    if (rendered !== "") onAdd(filter);
  };
  return (
    <form ref={form} class="filter-form" aria-label="Add a filter" onSubmit={submit} onKeyDown={(event) => event.key === "Escape" && onClose()}>
      {withMessage && (
        <select aria-label="Where" value={filter.where} onChange={(event) => chooseWhere(event.currentTarget.value as Where)}>
          <option value="message">Message</option>
          <option value="attribute">Attribute</option>
        </select>
      )}
      {filter.where === "attribute" && (
        <input aria-label="Attribute" placeholder="attribute, e.g. http.request.method" spellcheck={false} value={filter.key} onInput={(event) => change({ key: event.currentTarget.value })} />
      )}
      <select aria-label="Sense" value={filter.not ? "not" : ""} onChange={(event) => change({ not: event.currentTarget.value === "not" })}>
        <option value="">yes</option>
        <option value="not">not</option>
      </select>
      <select aria-label="How" value={filter.match} onChange={(event) => change({ match: event.currentTarget.value as Match })}>
        {MATCHES[filter.where].map(([match, words]) => <option key={match} value={match}>{words}</option>)}
      </select>
      {filter.match !== "exists" && (
        <input aria-label="Value" placeholder={filter.match === "regex" ? "pattern (RE2)" : "value"} spellcheck={false} value={filter.value} onInput={(event) => change({ value: event.currentTarget.value })} />
      )}
      <button type="submit" class="button primary" disabled={rendered === ""}>Add</button>
      <button type="button" class="button" onClick={onClose}>Cancel</button>
      <output class="filter-preview">{rendered === "" ? "" : <>adds <code>{visible(rendered)}</code></>}</output>
    </form>
  );
}
