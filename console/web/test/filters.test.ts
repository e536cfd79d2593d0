// Filters become text of the search language that means what was chosen; the server's grammar is tested in Python.
import assert from "node:assert/strict";
import { test } from "node:test";
import { addFilter, attributeIs, type Filter, levelOf, quote, renderFilter, slashed, withLevel } from "../src/lib/filters.ts";

function attribute(changes: Partial<Filter>): Filter {
  return { where: "attribute", key: "http.route", match: "is", value: "x", not: false, ...changes };
}

test("values are bare words or quoted", () => {
  const cases: [string, string][] = [["POST", "POST"], ["a b", '"a b"'], ['say "hi"', '"say \\"hi\\""'], ["back\\slash", '"back\\\\slash"'], ["OR", '"OR"'], ["-x", '"-x"'], ["a*", '"a*"'], ["1..5", '"1..5"'], ["1.2.3", "1.2.3"], ["a:b", '"a:b"'], ["/re/", '"/re/"'], ["", '""']];
  for (const [value, text] of cases) assert.equal(quote(value), text);
});

test("slashes inside a pattern are escaped once", () => {
  assert.deepEqual([slashed("a/b"), slashed("a\\/b"), slashed("\\d+\\\\/")], ["/a\\/b/", "/a\\/b/", "/\\d+\\\\\\//"]);
});

test("attribute filters say how they match", () => {
  assert.equal(renderFilter(attribute({})), "http.route:x");
  assert.equal(renderFilter(attribute({ not: true, value: "a b" })), '-http.route:"a b"');
  assert.equal(renderFilter(attribute({ match: "regex", value: "^/api" })), "http.route:/^\\/api/");
  assert.equal(renderFilter(attribute({ match: "exists", value: "" })), "http.route:*");
});

test("what the language cannot ask for is not offered", () => {
  for (const changes of [{ key: "" }, { key: "a b" }, { key: "<script>" }, { key: "level" }, { value: "" }, { value: "\0" }, { value: "\ud800" }, { match: "regex", value: "a\nb" }] as Partial<Filter>[]) {
    assert.equal(renderFilter(attribute(changes)), "", JSON.stringify(changes));
  }
});

test("a filter is added to what is already asked", () => {
  assert.equal(addFilter(" timeout ", attributeIs("user.id", "7")), "timeout user.id:7");
  assert.equal(addFilter("x", attributeIs("", "7")), "x");
  assert.equal(addFilter("", { where: "message", key: "", match: "regex", value: "conn(ection)?", not: false }), "/conn(ection)?/");
});

test("the level is one word of the query", () => {
  assert.equal(withLevel("a level>=info b", "error"), "a  b level>=error");
  assert.equal(withLevel("level>=info", ""), "");
  assert.deepEqual([levelOf("x level>=warn"), levelOf("xlevel>=warn"), levelOf("")], ["warn", "", ""]);
});
