// Text from the wire, made safe to look at. It is only ever put into text nodes, so markup cannot act; what is left is
// text that looks like something else: control characters, and marks that turn the reading direction.

const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const INVISIBLE = /[\u00ad\u200b-\u200d\u2060-\u2064\ufeff\ufff9-\ufffb]/g;
// Line feed and tab stay: they are layout in a message's body.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/g;

const MARK_START = "⟨";
const MARK_END = "⟩";

/** Makes direction marks, invisible and control characters visible as their code point, e.g. ⟨202E⟩. */
export function visible(text: string): string {
  return text.replace(CONTROL, mark).replace(BIDI, mark).replace(INVISIBLE, mark);
}

/** The same on one line: line breaks and tabs become signs. */
export function oneLine(text: string, limit = 2_000): string {
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return visible(cut.replace(/\r?\n/g, " ⏎ ").replace(/\t/g, " ⇥ "));
}

/** An http(s) address that may become a link, else null. */
export function linkable(text: string): string | null {
  if (!/^https?:\/\/[^\s]+$/i.test(text) || visible(text) !== text) return null;
  try {
    return new URL(text).href;
  } catch {
    return null;
  }
}

/** The first digits of an ID; the whole stands in the title and goes to the clipboard. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function mark(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return `${MARK_START}${code.toString(16).toUpperCase().padStart(4, "0")}${MARK_END}`;
}
