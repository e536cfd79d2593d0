// Strings from the wire cannot look like something they are not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { linkable, oneLine, plural, visible } from "../src/lib/text.ts";

test("direction marks, controls and invisible characters are spelt out", () => {
  assert.equal(visible("a\u202eb"), "a⟨202E⟩b");
  assert.equal(visible("\u0000\u0007\u001b[31m"), "⟨0000⟩⟨0007⟩⟨001B⟩[31m");
  assert.equal(visible("\u200b\ufeff\u2066\u2028\u0085"), "⟨200B⟩⟨FEFF⟩⟨2066⟩⟨2028⟩⟨0085⟩");
});

test("ordinary text of any script stays as it is", () => {
  for (const text of ["<b>bold</b>", "Grüße, 世界, مرحبا", "a\n\tb", "👩 ok"]) assert.equal(visible(text), text);
});

test("a row has one line and an end", () => {
  assert.equal(oneLine("a\r\nb\tc"), "a ⏎ b ⇥ c");
  assert.equal(oneLine("x".repeat(50), 10), `${"x".repeat(10)}…`);
});

test("only plain web addresses may become links", () => {
  assert.equal(linkable("https://example.com/a?b"), "https://example.com/a?b");
  for (const text of ["javascript:alert(1)", "data:text/html,x", "https://a b", "https://exa\u202emple.com", "//x.example", "ftp://x"]) assert.equal(linkable(text), null, text);
});

test("one is not many", () => {
  assert.deepEqual([plural(1, "line"), plural(0, "line"), plural(12_345, "line")], ["1 line", "0 lines", "12,345 lines"]);
});
