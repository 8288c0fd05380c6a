// The model of the watcher: a log without gap and double, and the filter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { entry, filter, Log } from "../../../host/src/http/console/assets/watcher/log.js";

const event = (n) => ({ type: "agent.message", id: `e${n}` });

test("events are taken once, in their order, and nothing behind a gap", () => {
  const log = new Log(10);
  assert.equal(log.append(11, event(11)), "taken");
  assert.equal(log.append(11, event(11)), "known");
  assert.equal(log.append(3, event(3)), "known");
  assert.equal(log.append(13, event(13)), "gap");
  assert.equal(log.append(Number.NaN, event(13)), "gap");
  assert.equal(log.append(12, event(12)), "taken");
  assert.deepEqual(log.entries.map((one) => one.seq), [11, 12]);
  assert.equal(log.last, 12);
});

test("earlier events are taken only where they join", () => {
  const log = new Log(10);
  log.append(11, event(11));
  assert.equal(log.prepend(7, [event(8), event(9)]), false, "10 is missing");
  assert.equal(log.prepend(8, []), false);
  assert.equal(log.prepend(8, [event(9), event(10)]), true);
  assert.equal(log.prepend(8, [event(9), event(10)]), false, "they are here");
  assert.deepEqual([log.base, log.last, log.at(9)?.event.id, log.at(11)?.event.id, log.at(8), log.at(12)], [8, 11, "e9", "e11", undefined, undefined]);
});

test("a time that is none is no time", () => {
  assert.equal(entry(1, { type: "x", processed_at: null }).at, null);
  assert.equal(entry(1, { type: "x", processed_at: "soon" }).at, null);
  assert.equal(entry(1, { type: "x", processed_at: "1970-01-01T00:00:01.500Z" }).at, 1500);
});

test("a filter lets pass what is of the kind and has all words", () => {
  const tool = entry(1, { type: "agent.tool_use", name: "Bash", input: { command: "ls -la" } });
  const passes = (kind, text) => filter(kind, text)?.(tool) ?? "no filter";
  assert.equal(passes("", " "), "no filter");
  assert.deepEqual([passes("agent.*", ""), passes("agent.tool_use", ""), passes("agent.tool", ""), passes("user.*", "")], [true, true, false, false]);
  assert.deepEqual([passes("", "LS bash"), passes("", "ls zsh"), passes("agent.*", "bash"), passes("user.*", "bash")], [true, false, true, false]);
});
