// Where on the timeline a moment is, and how numbers are told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axis, busy, without } from "../../../host/src/http/console/assets/watcher/axis.js";
import { blocks, duration, inputLine, oneLine, spans, summary, textOf, tokenWords } from "../../../host/src/http/console/assets/watcher/words.js";

const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("times of work are joined where they touch", () => {
  assert.deepEqual(busy([{ start: 0, end: 10 }, { start: 5, end: 7 }, { start: 10, end: 12 }, { start: 20, end: 21 }]), [{ start: 0, end: 12 }, { start: 20, end: 21 }]);
});

test("what is waited for is no work", () => {
  const work = [{ start: 0, end: 100 }, { start: 200, end: 300 }];
  assert.deepEqual(without(work, [{ start: 20, end: 40 }, { start: 90, end: 220 }]), [{ start: 0, end: 20 }, { start: 40, end: 90 }, { start: 220, end: 300 }]);
  assert.deepEqual(without(work, [{ start: 0, end: 100 }]), [{ start: 100, end: 100 }, { start: 200, end: 300 }], "its end is a moment still");
  assert.deepEqual(without(work, []), work);
});

test("the whole width is used, from the first moment to the last", () => {
  const { place, cuts } = axis([{ start: 1000, end: 2000 }, { start: 1500, end: 3000 }], true);
  near(place(1000), 0);
  near(place(2000), 0.5);
  near(place(3000), 1);
  near(place(9000), 1);
  assert.deepEqual(cuts, []);
});

test("a long time without work is cut, and only if wished", () => {
  const ranges = [{ start: 0, end: 10_000 }, { start: 3_600_000, end: 3_610_000 }];
  const cut = axis(ranges, true);
  assert.deepEqual(cut.cuts.map(({ ms }) => ms), [3_590_000]);
  near(cut.place(10_000), 0.5 - 0.006);
  near(cut.place(3_600_000), 0.5 + 0.006);
  near(cut.place(60_000), cut.place(10_000));
  near(cut.place(3_610_000), 1);
  const whole = axis(ranges, false);
  assert.deepEqual(whole.cuts, []);
  assert.ok(whole.place(10_000) < 0.003);
});

test("moments alone, one or many, have a place", () => {
  near(axis([], true).place(5), 0);
  near(axis([{ start: 5, end: 5 }], true).place(5), 0);
  const many = axis(Array.from({ length: 500 }, (_, n) => ({ start: n * 1e7, end: n * 1e7 })), true);
  assert.ok(many.place(499e7) <= 1 && many.place(250e7) > many.place(249e7));
});

test("ticks are few and round", () => {
  const { ticks } = axis([{ start: 0, end: 42_000 }], true);
  assert.deepEqual(ticks.map(({ label }) => label), ["0", "10 s", "20 s", "30 s", "40 s"]);
});

test("numbers are told for people", () => {
  assert.deepEqual([0, 999, 1500, 59_999, 61_000, 3_660_000, NaN].map(duration), ["0 ms", "999 ms", "1.5 s", "60 s", "1 min 1 s", "1 h 1 min", "n/a"]);
  assert.equal(tokenWords({ input_tokens: 1000, cache_read_input_tokens: 500, output_tokens: 7 }), "1,500 in (500 cached) / 7 out");
});

test("what an event says is one line, whatever it is", () => {
  assert.equal(textOf([{ type: "text", text: "a" }, { type: "image" }, { type: "document", title: "t" }, { type: "odd", x: 1 }]), 'a\n[image]\n[document: t]\n{"type":"odd","x":1}');
  assert.equal(inputLine({ command: "ls\n  -la" }), "ls -la");
  assert.equal(inputLine({ a: 1, b: 2 }), '{"a":1,"b":2}');
  assert.equal(oneLine("x".repeat(300)).length, 240);
  assert.equal(summary({ type: "x", stop_reason: { type: "requires_action", event_ids: ["a"] } }), "requires action: 1 open");
  assert.equal(summary({ type: "x", id: "i", processed_at: "now" }), "");
  assert.equal(summary({ type: "x", error: {} }), "error:");
});

test("what an agent writes is code and text, also where a fence is left open", () => {
  assert.deepEqual(blocks("Look:\n\n```rust\nlet a = 1;\n\nb();\n```\n\nDone.\n```\nopen\nend"), [["text", "Look:"], ["code", "let a = 1;\n\nb();"], ["text", "Done."], ["code", "open\nend"]]);
  assert.deepEqual(blocks("no fence: ``` here"), [["text", "no fence: ``` here"]]);
  assert.deepEqual(blocks(""), []);
  assert.deepEqual(spans("# Title\nuse `a<b>` and **all**, not 2**3"), [["strong", "Title"], ["text", "\nuse "], ["code", "a<b>"], ["text", " and "], ["strong", "all"], ["text", ", not 2**3"]]);
});
